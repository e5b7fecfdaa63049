"""The process chassis: clock, ids, configuration, logs, metrics, readiness."""

from __future__ import annotations

import io
import json
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from services.adapters import config, ids, log, metrics
from services.adapters.clock import FixedClock, SystemClock
from services.adapters.ops_http import Readiness
from services.adapters.tokens import new_key_pair
from services.core.ids import parse_uuid, uuid_text


def test_uuid7_sorts_by_its_microsecond_and_gives_it_back() -> None:
    instants = [1_700_000_000_000_000 + n for n in (0, 1, 2, 998, 999, 1000, 1001)]
    made = [ids.new_uuid7(at) for at in instants]
    assert made == sorted(made)
    assert all(abs(ids.instant_of(made_id) - at) <= 1 for made_id, at in zip(made, instants, strict=True))
    assert all(len(made_id) == 16 and made_id[6] >> 4 == 7 and made_id[8] >> 6 == 2 for made_id in made)
    assert ids.lowest_id(instants[3]) <= made[0] < ids.lowest_id(instants[3] + 2000)


@pytest.mark.parametrize(
    "text", ["", "x" * 36, "0193e0c0-0000-7000-8000-00000000000g", "0193e0c0000070008000000000000001"]
)
def test_parse_uuid_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|hexadecimal"):
        parse_uuid(text)


def test_uuid_text_round_trip() -> None:
    made = ids.new_uuid7(1_700_000_000_000_000)
    assert parse_uuid(uuid_text(made)) == made
    assert parse_uuid(uuid_text(made).upper()) == made


def test_clock_follows_the_database() -> None:
    clock = SystemClock()
    clock.observe(clock.now() + 5_000_000, clock.monotonic())
    assert 4_900_000 < clock.offset_us < 5_100_000
    worse = clock.monotonic() - 1.0
    clock.observe(clock.now() + 50_000_000, worse)
    assert clock.offset_us < 5_100_000, "a slow round trip does not overrule a fast one"


def test_setting_the_machines_clock_moves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    clock.observe(clock.now() + 5_000_000, clock.monotonic())
    before = clock.now()
    wall = time.time_ns() + 3_600 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: wall)
    assert 0 <= clock.now() - before < 1_000_000
    clock.observe(before, clock.monotonic())
    assert abs(clock.now() - before) < 1_000_000


def _env(**changes: str) -> config.Environment:
    return config.Environment({"WECONNECT_TOKEN_PUBLIC_KEY": new_key_pair().public_key, **changes})


def test_configuration_reports_every_mistake_at_once() -> None:
    env = config.Environment(
        {
            "EXECUTION_DEFAULT_TIMEOUT": "soon",
            "EXECUTION_RETRY_ATTEMPTS": "-1",
            "PERFORMANCE_SAMPLING_RATE": "2",
            "WECONNECT_GRPC_ADDRESS": "nowhere",
            "WECONNECT_NATS_URL": "http://user:hidden@nats",
            "REDIS_HOST": "r",
            "WEBSOCKET_ENABLED": "true",
        }
    )
    config.read_server(env, "127.0.0.1:0", "127.0.0.1:0")
    config.read_executions(env)
    config.read_sampling(env)
    config.read_nats(env)
    config.read_database_url(env)
    with pytest.raises(config.ConfigurationError) as refused:
        env.finish()
    text = str(refused.value)
    for name in (
        "EXECUTION_DEFAULT_TIMEOUT",
        "EXECUTION_RETRY_ATTEMPTS",
        "PERFORMANCE_SAMPLING_RATE",
        "WECONNECT_GRPC_ADDRESS",
        "WECONNECT_NATS_URL",
        "WECONNECT_DATABASE_URL",
        "WECONNECT_TOKEN_PUBLIC_KEY",
    ):
        assert name in text
    assert "hidden" not in text
    assert [notice.split()[0] for notice in env.notices] == ["REDIS_HOST", "WEBSOCKET_ENABLED"]


def test_configuration_defaults_are_the_specifications() -> None:
    env = _env()
    executions = config.read_executions(env)
    assert (executions.default_timeout_us, executions.max_timeout_us) == (300_000_000, 3_600_000_000)
    assert (executions.retry_attempts, executions.retry_delay_us) == (3, 2_000_000)
    env.finish()


def test_configuration_refuses_a_key_that_is_none() -> None:
    env = _env(WECONNECT_TOKEN_PUBLIC_KEY="-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")
    config.read_server(env, "127.0.0.1:0", "127.0.0.1:0")
    assert env.problems
    assert "WECONNECT_TOKEN_PUBLIC_KEY" in env.problems[0]


def test_settings_or_exit_ends_with_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WECONNECT_DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        config.settings_or_exit("api", config.read_database_url)
    assert ended.value.code == 2
    assert "WECONNECT_DATABASE_URL" in capsys.readouterr().err


def test_what_json_cannot_hold_is_logged_nevertheless() -> None:
    """A line that raises would end whoever wrote it: an attempt was never reported because its error was logged."""
    stream = io.BytesIO()
    log.configure_logging("api", "INFO", stream)
    log.get_logger("here").info("attempt failed", message="no file \udcff", number=1 << 70)
    line = json.loads(stream.getvalue())
    assert "attempt failed" in line["event"]
    assert "udcff" in line["message"]


def test_log_lines_are_json_with_context_and_without_secrets() -> None:
    stream = io.BytesIO()
    log.configure_logging("api", "INFO", stream)
    with log.bound(execution_id="e1"):
        log.get_logger("here").info("started", authorization="Bearer x", data=b"\x01\x02")
    log.get_logger("here").debug("unseen")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 1
    line = lines[0]
    assert (line["event"], line["execution_id"], line["process"], line["level"]) == (
        "started",
        "e1",
        "api",
        "info",
    )
    assert line["authorization"] == log.REDACTED
    assert line["data"] == "0102"


def test_metric_names_are_checked_and_children_kept() -> None:
    registry = CollectorRegistry()
    with pytest.raises(ValueError, match="things"):
        metrics.counter(registry, "weconnect_things", "Things.")
    with pytest.raises(ValueError, match="things"):
        metrics.gauge(registry, "things_total", "Things.")
    children = metrics.Children[Counter](
        metrics.counter(registry, "weconnect_things_total", "Things.", ["kind"])
    )
    children.of("a").inc()
    assert children.of("a") is children.of("a")
    assert b'weconnect_things_total{kind="a"} 1.0' in generate_latest(registry)
    assert b"weconnect_build_info" in generate_latest(metrics.new_registry("api"))


def test_readiness_is_all_parts_and_no_drain() -> None:
    readiness = Readiness("database", "bus")
    readiness.ready("database")
    assert not readiness.is_ready
    readiness.ready("bus")
    assert readiness.report() == {"database": "ready", "bus": "ready"}
    readiness.drain()
    assert not readiness.is_ready
    assert readiness.report()["drain"] == "draining"


def test_fixed_clock_moves_only_when_told() -> None:
    clock = FixedClock(10_000_000)
    clock.advance(500_000)
    assert (clock.now(), clock.monotonic()) == (10_500_000, 10.5)
