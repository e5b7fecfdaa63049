"""Bounds that the machine keeps, with their units."""

from __future__ import annotations

from services.core.units import KIB, SECOND

# A value inline, in bytes of JSON; larger ones are refused with RESOURCE until blobs carry them.
OUTPUT_BYTES_MAX = 256 * KIB

# Runner deaths under one node before it fails as POISON.
LOSSES_MAX = 3

# How long running tasks have to end after a cancel.
CANCEL_GRACE_US = 10 * SECOND
