"""`python -m services.runner`."""

from __future__ import annotations

from services.runner.main import main

if __name__ == "__main__":
    raise SystemExit(main())
