"""`python -m services.api`."""

from services.api.main import main

raise SystemExit(main())
