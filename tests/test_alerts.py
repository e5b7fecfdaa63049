"""The alert rules speak of metrics that the services have: a rule over a name that is gone never rings."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
SUFFIXES = ("_bucket", "_count", "_sum")


def metric_names() -> set[str]:
    """Names in the services' sources; a histogram's series come with its suffixes."""
    names: set[str] = set()
    for path in (ROOT / "services").rglob("*.py"):
        names |= set(re.findall(r'"((?:weconnect|grpc_server)_[a-z_]+)"', path.read_text()))
    return names | {name + suffix for name in names for suffix in SUFFIXES} | {"up"}


def test_every_alert_is_about_metrics_that_exist() -> None:
    known = metric_names()
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        used = set(re.findall(r"\b(?:(?:weconnect|grpc_server)_[a-z_]+|up)\b(?=[{\[) <>=]|$)", rule["expr"]))
        assert used, rule["alert"]
        assert used <= known, (rule["alert"], used - known)
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
