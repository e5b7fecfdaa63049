"""Alembic environment: hand-written SQL, run under an advisory lock by `adapters.postgres.migrate`."""
