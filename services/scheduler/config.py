"""Settings of the scheduler, from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from services.adapters.config import (
    Environment,
    ExecutionSettings,
    NatsSettings,
    SamplingSettings,
    ServerSettings,
    read_database_url,
    read_executions,
    read_nats,
    read_sampling,
    read_server,
)


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Everything a scheduler is told from outside."""

    database_url: str
    nats: NatsSettings
    server: ServerSettings
    executions: ExecutionSettings
    sampling: SamplingSettings


def read_settings(env: Environment) -> SchedulerSettings:
    """Settings; mistakes are collected in `env`."""
    return SchedulerSettings(
        database_url=read_database_url(env),
        nats=read_nats(env),
        server=read_server(env, "127.0.0.1:50052", "127.0.0.1:9092"),
        executions=read_executions(env),
        sampling=read_sampling(env),
    )
