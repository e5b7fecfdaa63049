"""Patch, then run the service."""

from __future__ import annotations

import importlib
import sys

from tests.faults.mutants.patches import PATCHES


def main() -> int:
    """Arguments: the mutant and the service's kind."""
    mutant, kind = sys.argv[1:3]
    PATCHES[mutant]()
    return int(importlib.import_module(f"services.{kind}.main").main())


if __name__ == "__main__":
    sys.exit(main())
