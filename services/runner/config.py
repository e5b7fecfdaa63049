"""Settings of a runner."""

from __future__ import annotations

from dataclasses import dataclass

from services.adapters.clock import SystemClock
from services.adapters.config import (
    Environment,
    NatsSettings,
    ServerSettings,
    read_nats,
    read_server,
)
from services.adapters.nats.topology import task_subject
from services.core.graph import DEFAULT_TASK_QUEUE
from services.runner.apps import load_apps
from services.runner.handlers import HandlerError, Handlers
from services.runner.nodes import built_in
from services.runner.nodes.egress import Egress, Network, parse_networks
from services.runner.nodes.http_request import HttpRequest
from weconnect import App

SLOTS_DEFAULT = 100
# A whole beat names every held task and must fit into one message.
SLOTS_MAX = 4_000
DRAIN_SECONDS_DEFAULT = 30


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """What a runner needs to know. `drain_s`: how long running handlers may go on after SIGTERM."""

    server: ServerSettings
    nats: NatsSettings
    slots: int
    queues: tuple[str, ...]
    drain_s: float
    http_allowed: tuple[Network, ...]
    apps: tuple[App, ...]


def read_settings(env: Environment) -> RunnerSettings:
    """Settings from the environment; users' apps are imported, so that their mistakes are reported with the others."""
    networks, problems = parse_networks(env.words("WECONNECT_HTTP_ALLOW"))
    env.problems.extend(f"WECONNECT_HTTP_ALLOW: {problem}" for problem in problems)
    queues = env.words("WECONNECT_TASK_QUEUES", (DEFAULT_TASK_QUEUE,))
    for queue in queues:
        try:
            task_subject(queue)
        except ValueError as error:
            env.problems.append(f"WECONNECT_TASK_QUEUES: {error}")
    apps, problems = load_apps(env.words("WECONNECT_APPS"))
    env.problems.extend(problems)
    env.problems.extend(_conflicts(apps))
    return RunnerSettings(
        server=read_server(env, "127.0.0.1:50053", "127.0.0.1:9093"),
        nats=read_nats(env),
        slots=env.integer("WECONNECT_RUNNER_SLOTS", SLOTS_DEFAULT, 1, SLOTS_MAX),
        queues=queues,
        drain_s=float(env.integer("WECONNECT_RUNNER_DRAIN_SECONDS", DRAIN_SECONDS_DEFAULT, 0, 3_600)),
        http_allowed=tuple(networks),
        apps=tuple(apps),
    )


def _conflicts(apps: list[App]) -> list[str]:
    """Node types that two apps, or an app and this runner, have a handler for."""
    handlers = Handlers(built_in(HttpRequest(Egress(), SystemClock())))
    problems: list[str] = []
    for app in apps:
        try:
            handlers.add(app)
        except HandlerError as error:
            problems.append(f"WECONNECT_APPS: {error}")
    return problems
