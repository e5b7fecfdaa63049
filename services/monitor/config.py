"""Settings of the monitor, from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from services.adapters.config import (
    Environment,
    NatsSettings,
    ServerSettings,
    read_database_url,
    read_nats,
    read_server,
)


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Everything a monitor is told from outside."""

    database_url: str
    nats: NatsSettings
    server: ServerSettings


def read_settings(env: Environment) -> MonitorSettings:
    """Settings; mistakes are collected in `env`."""
    return MonitorSettings(
        database_url=read_database_url(env),
        nats=read_nats(env),
        server=read_server(env, "127.0.0.1:50054", "127.0.0.1:9094"),
    )
