"""Runs a command that ends when its launcher ends, and, where asked, under another user. Standard library only.

The launcher starts it as `python -I -S leash.py OPTIONS -- COMMAND …`; it changes the user, asks the kernel for a
signal at the launcher's death, and becomes the command (same process id). Doing this in a process of its own,
rather than between fork and exec of the launcher, keeps it safe with threads.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys

# Exit codes of the leash itself; the command's own codes are all others.
EXIT_NO_NAMESPACE = 96
EXIT_ORPHAN = 97
EXIT_NO_COMMAND = 127

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Become the command; returns only when that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launcher", type=int, required=True, help="process id of the launcher")
    parser.add_argument("--signal", type=int, required=True, help="signal to get when the launcher dies")
    parser.add_argument("--namespace", metavar="UID:GID", help="be this user in a user namespace of our own")
    parser.add_argument("--user", metavar="UID:GID", help="become this user")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    os.umask(0o077)
    if options.namespace:
        try:
            _enter_namespace(*_ids(options.namespace))
        except OSError as error:
            print(f"leash: no user namespace: {error}", file=sys.stderr)
            return EXIT_NO_NAMESPACE
    elif options.user:
        uid, gid = _ids(options.user)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # Only now: a change of credentials would clear the wish for that signal.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, options.signal, 0, 0, 0)
    if os.getppid() != options.launcher:
        return EXIT_ORPHAN
    try:
        os.execvp(options.command[0], options.command)
    except OSError as error:
        print(f"leash: cannot run {options.command[0]}: {error.strerror}", file=sys.stderr)
    return EXIT_NO_COMMAND


def _ids(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


def _enter_namespace(inside_uid: int, inside_gid: int) -> None:
    """Be `inside_uid` to ourselves while files stay owned by the user who started us."""
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside_uid} {uid} 1"),
        ("gid_map", f"{inside_gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
