"""Finds users' apps: `WECONNECT_APPS=module:app,…` and the entry points `weconnect.apps` of what is installed."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from importlib import metadata

from weconnect import App

ENTRY_POINTS = "weconnect.apps"


def load_apps(names: Iterable[str]) -> tuple[list[App], list[str]]:
    """Apps by `module:attribute` and by entry point, each once, and what went wrong, one sentence each.

    Modules of the working directory are found, however the process was started.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    apps: list[App] = []
    problems: list[str] = []
    for source, name in [*(("WECONNECT_APPS", name) for name in names), *_installed()]:
        found = _load(source, name)
        if isinstance(found, str):
            problems.append(found)
        elif not any(found is app for app in apps):
            apps.append(found)
    return apps, problems


def _installed() -> list[tuple[str, str]]:
    return [(f"entry point {point.name}", point.value) for point in metadata.entry_points(group=ENTRY_POINTS)]


def _load(source: str, name: str) -> App | str:
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        return f"{source} names {name!r}; write module:app"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises when it is imported is reported, not hidden
        traceback.print_exception(error, file=sys.stderr)
        return f"{source} names {name!r}, whose module cannot be imported: {type(error).__name__}: {error}"
    found = getattr(module, attribute, None)
    if isinstance(found, App):
        return found
    if found is None:
        return f"{source} names {name!r}, but {module_name} has no {attribute!r}"
    return f"{source} names {name!r}, which is a {type(found).__name__} and no weconnect.App"
