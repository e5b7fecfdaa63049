"""JSON for the core, which has no codec of its own (`core.state.JsonCodec`)."""

from __future__ import annotations

import orjson


class JsonCodec:
    """JSON by orjson."""

    @staticmethod
    def loads(data: bytes) -> object:
        """Plain Python of JSON bytes; raises ValueError for what is none."""
        return orjson.loads(data)

    @staticmethod
    def dumps(value: object) -> bytes:
        """JSON bytes of plain Python; raises TypeError for what JSON cannot say."""
        return orjson.dumps(value)


JSON = JsonCodec()
