"""An HTTP server that receives messages, as a company's chat does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(HTTPServer):
    """An HTTP server that accepts what Apprise posts, or refuses it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, str]] = []
        self.is_up = True

    @property
    def url(self) -> str:
        return f"json://user:s3cret@127.0.0.1:{self.server_port}/token-t0ken"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.is_up:
            self.server.messages.append(body)
        self.send_response(200 if self.server.is_up else 503)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        return


@contextmanager
def receiving_messages() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
