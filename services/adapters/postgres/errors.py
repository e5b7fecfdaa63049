"""What the database can say no with, as refusals that a client may see: never with a driver's text."""

from __future__ import annotations

import psycopg

from services.core.refusals import Kind, Refusal
from services.core.units import SECOND

# Data exception, integrity constraint violation, program limit exceeded: the value will never be taken.
DATA_CLASSES = ("22", "23", "54")


class DatabaseUnavailableError(Refusal):
    """The database cannot be reached or does not answer; what was asked may or may not have been done."""

    def __init__(self) -> None:
        super().__init__(
            Kind.UNAVAILABLE,
            "UNAVAILABLE",
            "the database does not answer",
            retry_after_us=SECOND,
            metadata={"dependency": "database"},
        )


class DataRefusedError(Refusal):
    """The database never takes some value of the request."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(
            Kind.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            f"the database refused a value of the request ({sqlstate})",
            metadata={"sqlstate": sqlstate},
        )


def as_refusal(error: psycopg.Error) -> Exception:
    """The refusal that a driver's error means; the error itself when it is a mistake of ours."""
    if error.sqlstate is not None and error.sqlstate.startswith(DATA_CLASSES):
        return DataRefusedError(error.sqlstate)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailableError()
    return error
