"""WeConnect for users: `App` and what handlers need, and the generated contract below `weconnect.*.v1`."""

from __future__ import annotations

from weconnect.app import App, NodeHandler
from weconnect.context import Context, NodeLog
from weconnect.failures import Cancelled, NodeFailure, NonRetryable

__all__ = ["App", "Cancelled", "Context", "NodeFailure", "NodeHandler", "NodeLog", "NonRetryable"]
