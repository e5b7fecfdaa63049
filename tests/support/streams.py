"""What the streams on NATS hold."""

from __future__ import annotations

import nats


async def messages_in_streams(url: str) -> dict[str, int]:
    """Messages by stream."""
    client = await nats.connect(url)
    try:
        streams = await client.jetstream().streams_info()
        return {str(stream.config.name): stream.state.messages for stream in streams}
    finally:
        await client.close()
