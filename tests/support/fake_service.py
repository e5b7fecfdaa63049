"""A service that is only a process: ready when told, ends when told. For tests of those who start processes."""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = "FAKE_UNREADY" not in os.environ
        self.send_response(200 if self.path == "/readyz" and ready else 503)
        self.end_headers()
        self.wfile.write(b"it says no\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if "FAKE_CODE" in os.environ:
        print("this service does not like its settings", file=sys.stderr)
        sys.exit(int(os.environ["FAKE_CODE"]))
    host, _, port = os.environ["WECONNECT_HTTP_ADDRESS"].rpartition(":")
    HTTPServer((host, int(port)), _Handler).serve_forever()


if __name__ == "__main__":
    main()
