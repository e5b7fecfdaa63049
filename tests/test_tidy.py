"""The house is kept: sizes, names, docstrings and words, for every file that is ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("services", "sdk", "tests", "scripts", "benchmarks", "examples", "protos", "docs", "deploy", ".ci")
GENERATED = {
    ROOT / "sdk/weconnect" / name for name in ("executions", "scheduler", "runner", "monitor", "internal")
}
# The yardstick of the benchmarks, kept as it is measured everywhere.
FOREIGN = {ROOT / "benchmarks/floor"}
TEXTS = {
    ".py",
    ".proto",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".sh",
    ".sql",
    ".mako",
    ".txt",
    ".lock",
    "",
}

MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50

# Module -> why it may be longer.
LONG_MODULES: dict[str, str] = {}
# Function -> why it may be longer.
LONG_FUNCTIONS: dict[str, str] = {}

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
PROCESSES = ("api", "scheduler", "runner", "monitor")
PROCESS_FILES = ("__init__.py", "__main__.py", "main.py", "config.py", "metrics.py", "servicer/__init__.py")
PROCESS_LINES = ("Job:", "Reads:", "Writes:", "Never:")

# Pattern -> why nothing committed may say it.
BANNED_WORDS = {
    r"/work/|/tmp/\w": "a path of one machine",
    r"pypi\.org|pythonhosted|npmjs": "the host of a registry",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "work left open",
    r"\b[Cc]anceled\b|\bCANCELED\b": "cancelled has two l",
}


def files() -> Iterator[Path]:
    """Every text file that is ours: generated code, caches and local state left out."""
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in TEXTS)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            ours = path.is_file() and path.suffix in TEXTS and not (GENERATED | FOREIGN) & set(path.parents)
            if ours and not any(
                part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts[1:]
            ):
                yield path


def modules() -> list[Path]:
    """Every Python module that is ours."""
    return [path for path in files() if path.suffix == ".py"]


def name(path: Path) -> str:
    """Path relative to the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its first to its last statement, docstring left out."""
    first = function.body[1:2] if ast.get_docstring(function) else function.body[:1]
    return (function.end_lineno or 0) - first[0].lineno + 1 if first else 0


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function in a tree, with its dotted name."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            dotted = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield dotted, child
            yield from functions(child, f"{dotted}.")
        else:
            yield from functions(child, prefix)


def test_modules_are_short() -> None:
    """A module has at most 300 lines, unless the list above says why not."""
    lengths = {name(path): len(path.read_text().splitlines()) for path in modules()}
    assert {
        at: lines for at, lines in lengths.items() if lines > MODULE_LINES_MAX and at not in LONG_MODULES
    } == {}
    assert [at for at in LONG_MODULES if lengths.get(at, 0) <= MODULE_LINES_MAX] == [], "not long any more"


def test_functions_are_short() -> None:
    """A function has at most 50 lines, unless the list above says why not."""
    lengths = {
        f"{name(path)}::{dotted}": body_lines(function)
        for path in modules()
        for dotted, function in functions(ast.parse(path.read_text()), "")
    }
    long = {
        at: lines for at, lines in lengths.items() if lines > FUNCTION_LINES_MAX and at not in LONG_FUNCTIONS
    }
    assert long == {}
    assert [at for at in LONG_FUNCTIONS if lengths.get(at, 0) <= FUNCTION_LINES_MAX] == [], (
        "not long any more"
    )


def test_names_say_what_things_are() -> None:
    """No module or package is called by a word that means nothing."""
    assert [
        name(path) for path in modules() if VAGUE_NAMES & {*path.relative_to(ROOT).parts, path.stem}
    ] == []


def test_modules_and_packages_say_what_they_are_for() -> None:
    """Each module opens with a docstring; each folder of modules under services/ and sdk/ is a package."""
    silent = [name(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []
    folders = {path.parent for path in modules() if name(path).startswith(("services/", "sdk/weconnect/"))}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("process", PROCESSES)
def test_processes_look_alike(process: str) -> None:
    """Each process has the same files and opens with what it does and what it never does."""
    folder = ROOT / "services" / process
    assert [file for file in PROCESS_FILES if not (folder / file).is_file()] == []
    opening = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    assert [line for line in PROCESS_LINES if line not in opening] == []


@pytest.mark.parametrize("pattern", BANNED_WORDS)
def test_words_that_nothing_says(pattern: str) -> None:
    """No file holds what `BANNED_WORDS` lists."""
    expression = re.compile(pattern)
    found = [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if expression.search(line)
    ]
    assert found == [], BANNED_WORDS[pattern]
