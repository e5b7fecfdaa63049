"""`python -m services.local up | down | demo`: a whole installation on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from services.local.service import KINDS

STATE_DIRECTORY = Path(".weconnect")
DEFAULT_APPS = "examples.shop:app"


def main() -> int:
    """Exit code of the command: 0 well, 1 failed, 2 wrong usage, 3 another one runs."""
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up_options = commands.add_parser(
        "up", help="run a stack in the foreground; Ctrl-C ends it, its data stays"
    )
    down_options = commands.add_parser("down", help="end a stack that was left behind")
    commands.add_parser("demo", help="run an order workflow on a stack of its own, and leave nothing behind")
    for command in (up_options, down_options):
        command.add_argument(
            "--directory", type=Path, default=STATE_DIRECTORY, help="state of the stack (%(default)s)"
        )
    for kind in KINDS:
        up_options.add_argument(
            f"--{kind}", type=_count, default=1, metavar="N", help=f"processes of {kind} (%(default)s)"
        )
    options = parser.parse_args()
    match str(options.command):
        case "up":
            from services.local.up import up

            counts = {kind: getattr(options, kind) for kind in KINDS}
            return up(options.directory.absolute(), counts, _environment())
        case "down":
            from services.local.up import down

            return down(options.directory.absolute())
        case _:
            from services.local.demo import demo

            return demo()


def _environment() -> dict[str, str]:
    """Our own environment; without apps of the user, runners load those of the examples."""
    has_examples = Path("examples/shop.py").is_file()
    return ({"WECONNECT_APPS": DEFAULT_APPS} if has_examples else {}) | dict(os.environ)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError("must be from 1 to 16")
    return number


if __name__ == "__main__":
    sys.exit(main())
