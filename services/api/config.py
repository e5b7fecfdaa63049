"""Settings of api, from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from services.adapters.config import (
    Environment,
    ExecutionSettings,
    NatsSettings,
    ServerSettings,
    read_database_url,
    read_executions,
    read_nats,
    read_server,
)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Everything an api process is told from outside."""

    database_url: str
    nats: NatsSettings
    server: ServerSettings
    executions: ExecutionSettings


def read_settings(env: Environment) -> ApiSettings:
    """Settings; mistakes are collected in `env`."""
    return ApiSettings(
        database_url=read_database_url(env),
        nats=read_nats(env),
        server=read_server(env, "127.0.0.1:50051", "127.0.0.1:9091"),
        executions=read_executions(env),
    )
