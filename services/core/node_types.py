"""The node types that are part of the language: who runs them and which ports they have."""

from __future__ import annotations

from typing import Any

# Decided in the scheduler; no task.
LOCAL_TYPES = frozenset({"condition", "switch", "merge", "set", "delay", "fail", "end", "noop"})

# Handlers that every runner brings.
BUILT_IN_TASK_TYPES = frozenset({"http.request", "transform", "log"})

# Types of the language that this build does not run yet.
UNSUPPORTED_TYPES = frozenset(
    {"wait_for_signal", "approval", "subworkflow", "grpc.call", "nats.publish", "nats.request", "sql.query"}
)

FAILURE_PORTS = frozenset({"error", "timeout"})

_OUT = FAILURE_PORTS | {"out"}
_PORTS = {
    "condition": FAILURE_PORTS | {"true", "false"},
    "approval": FAILURE_PORTS | {"approved", "rejected"},
    # It ends the execution: nothing follows its success.
    "end": FAILURE_PORTS,
}


def ports_of(node_type: str, parameters: Any) -> frozenset[str]:
    """Ports that a node of this type has: `error` and `timeout`, and `out` unless it chooses among its own.

    A switch has the ports its parameters name.
    """
    if node_type != "switch":
        return _PORTS.get(node_type, _OUT)
    if not isinstance(parameters, dict):
        return FAILURE_PORTS
    cases = parameters.get("cases")
    named = [case.get("port") for case in cases if isinstance(case, dict)] if isinstance(cases, list) else []
    return FAILURE_PORTS | {port for port in [*named, parameters.get("default")] if isinstance(port, str)}
