"""Reads the environment into typed, frozen settings. All mistakes are reported at once.

Each process composes its settings from the sections here. Names of the specification keep their units
(milliseconds); all others start with `WECONNECT_`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from services.adapters.tokens import load_public_key
from services.core.units import MILLISECOND

EXIT_CONFIGURATION = 2
# Names of the specification that nothing reads -> why, for who sets them nevertheless.
UNUSED_PREFIXES = {
    "REDIS_": "there is no Redis here, see WECONNECT_NATS_URL",
    "CIRCUIT_BREAKER_": "this release has no circuit breakers",
    "WEBSOCKET_": "this release has no HTTP front",
}
T = TypeVar("T")


class ConfigurationError(Exception):
    """The environment is not usable; `problems` has every mistake, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How tokens are verified: PEM public key (Ed25519), expected issuer and audience."""

    public_key: str
    issuer: str
    audience: str


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """Where the bus is; `credentials` is a path or empty."""

    url: str
    credentials: str


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What every process needs to be reached and watched."""

    grpc: Address
    http: Address
    token: TokenSettings
    log_level: str
    channelz: bool


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """Defaults and bounds of executions, durations in microseconds."""

    default_timeout_us: int
    max_timeout_us: int
    retry_attempts: int
    retry_delay_us: int


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Whether, and for which share of executions, CPU and memory of attempts are sampled."""

    enabled: bool
    rate: float


class Environment:
    """Reads variables and collects what is wrong with them; `finish` raises when anything was."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []
        self.notices: list[str] = [
            f"{name} is set but unused: {why}"
            for name in sorted(variables)
            for prefix, why in UNUSED_PREFIXES.items()
            if name.startswith(prefix)
        ]

    def text(self, name: str, default: str | None = None) -> str:
        """Text of a variable; without a default it is required."""
        value = self._variables.get(name, "").strip()
        if value:
            return value
        if default is None:
            self.problems.append(f"{name} is not set")
            return ""
        return default

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Words separated by commas, blanks around them dropped."""
        value = self._variables.get(name, "")
        return tuple(word.strip() for word in value.split(",") if word.strip()) or default

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of the given words, in any case."""
        value = self.text(name, default).upper()
        if value not in choices:
            self.problems.append(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
            return default
        return value

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number between two bounds, both allowed."""
        value = self.text(name, str(default))
        try:
            number = int(value)
        except ValueError:
            self.problems.append(f"{name} is {value!r}; it must be a whole number")
            return default
        if not lowest <= number <= highest:
            self.problems.append(f"{name} is {number}; it must lie between {lowest} and {highest}")
            return default
        return number

    def milliseconds(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A duration given in milliseconds, as microseconds."""
        return self.integer(name, default, lowest, highest) * MILLISECOND

    def ratio(self, name: str, default: float) -> float:
        """A number from 0 to 1."""
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0.0 <= number <= 1.0:
            self.problems.append(f"{name} is {value!r}; it must be a number from 0 to 1")
            return default
        return number

    def flag(self, name: str, default: bool) -> bool:
        """true or false (also 1, 0, yes, no, on, off)."""
        value = self.text(name, "true" if default else "false").lower()
        if value in {"true", "1", "yes", "on"}:
            return True
        if value not in {"false", "0", "no", "off"}:
            self.problems.append(f"{name} is {value!r}; it must be true or false")
            return default
        return False

    def address(self, name: str, default: str) -> Address:
        """host:port to listen on; `[::1]:port` for IPv6."""
        value = self.text(name, default)
        host, _, port = value.rpartition(":")
        host = host.strip("[]")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            self.problems.append(f"{name} is {value!r}; it must be host:port")
            return Address("127.0.0.1", 0)
        return Address(host, int(port))

    def url(self, name: str, schemes: tuple[str, ...], default: str | None = None) -> str:
        """A URL of one of the schemes; its text never appears in a problem, since it may hold a password."""
        value = self.text(name, default)
        if value and urlsplit(value).scheme not in schemes:
            starts = " or ".join(f"{scheme}://" for scheme in schemes)
            self.problems.append(f"{name} must be a URL that starts with {starts}")
        return value

    def document(self, name: str, default: str | None = None) -> str:
        """Text itself, or the content of a file when the value is `@path`."""
        value = self.text(name, default)
        if not value.startswith("@"):
            return value.replace("\\n", "\n")
        try:
            return Path(value[1:]).read_text(encoding="utf-8")
        except OSError as error:
            self.problems.append(f"{name} names a file that cannot be read: {value[1:]} ({error.strerror})")
        except UnicodeDecodeError:
            self.problems.append(f"{name} names a file that is not text: {value[1:]}")
        return ""

    def finish(self) -> None:
        """Raise ConfigurationError when anything was wrong."""
        if self.problems:
            raise ConfigurationError(self.problems)


def read_database_url(env: Environment) -> str:
    """libpq URL of the database."""
    return env.url("WECONNECT_DATABASE_URL", ("postgresql", "postgres"))


def read_nats(env: Environment) -> NatsSettings:
    """Where the bus is."""
    url = env.url("WECONNECT_NATS_URL", ("nats", "tls", "ws", "wss"), "nats://127.0.0.1:4222")
    credentials = env.text("WECONNECT_NATS_CREDENTIALS", "")
    if credentials and not Path(credentials).is_file():
        env.problems.append(f"WECONNECT_NATS_CREDENTIALS names a file that does not exist: {credentials}")
    return NatsSettings(url, credentials)


def read_server(env: Environment, grpc_default: str, http_default: str) -> ServerSettings:
    """Addresses, tokens and logging of a process."""
    public_key = env.document("WECONNECT_TOKEN_PUBLIC_KEY")
    if public_key:
        try:
            load_public_key(public_key)
        except ValueError as error:
            env.problems.append(f"WECONNECT_TOKEN_PUBLIC_KEY cannot be used: {error}")
    return ServerSettings(
        grpc=env.address("WECONNECT_GRPC_ADDRESS", grpc_default),
        http=env.address("WECONNECT_HTTP_ADDRESS", http_default),
        token=TokenSettings(
            public_key=public_key,
            issuer=env.text("WECONNECT_TOKEN_ISSUER", "weconnect"),
            audience=env.text("WECONNECT_TOKEN_AUDIENCE", "weconnect.executions"),
        ),
        log_level=env.choice("WECONNECT_LOG_LEVEL", ("DEBUG", "INFO", "WARN", "ERROR"), "INFO"),
        channelz=_read_channelz(env),
    )


def _read_channelz(env: Environment) -> bool:
    wanted = env.flag("WECONNECT_CHANNELZ", False)
    if wanted and find_spec("grpc_channelz") is None:
        env.problems.append("WECONNECT_CHANNELZ is true but the extra `admin` is not installed")
    return wanted


def read_executions(env: Environment) -> ExecutionSettings:
    """Defaults of timeouts and retries. Bounds: the limits page allows only downwards."""
    hour_ms = 3_600_000
    settings = ExecutionSettings(
        default_timeout_us=env.milliseconds("EXECUTION_DEFAULT_TIMEOUT", 300_000, 1_000, 366 * 24 * hour_ms),
        max_timeout_us=env.milliseconds("EXECUTION_MAX_TIMEOUT", hour_ms, 1_000, 366 * 24 * hour_ms),
        retry_attempts=env.integer("EXECUTION_RETRY_ATTEMPTS", 3, 0, 1_000_000),
        retry_delay_us=env.milliseconds("EXECUTION_RETRY_DELAY", 2_000, 0, 24 * hour_ms),
    )
    if settings.default_timeout_us > settings.max_timeout_us:
        env.problems.append("EXECUTION_DEFAULT_TIMEOUT must not be longer than EXECUTION_MAX_TIMEOUT")
    return settings


def read_sampling(env: Environment) -> SamplingSettings:
    """Sampling of CPU and memory."""
    return SamplingSettings(
        enabled=env.flag("PERFORMANCE_MONITORING_ENABLED", True),
        rate=env.ratio("PERFORMANCE_SAMPLING_RATE", 0.1),
    )


def settings_or_exit(process: str, read: Callable[[Environment], T]) -> T:
    """Settings of a process from the real environment; reports every mistake and ends with code 2."""
    env = Environment(os.environ)
    try:
        settings = read(env)
        env.finish()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"{process}: configuration: {problem}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from None
    for notice in env.notices:
        print(f"{process}: configuration: {notice}", file=sys.stderr)
    return settings
