"""A local chat server that streams what a test scripts, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """Answers every POST with `events`: JSON-able events, bytes as they are, seconds to wait, or what to wait for."""

    def __init__(self, events: Sequence[dict[str, Any] | bytes | float | threading.Event], status: int = 200) -> None:
        self.events, self.status = list(events), status
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.url = ""


@contextmanager
def serving(server: ChatServer) -> Iterator[ChatServer]:
    """Serve on a free local port; the address is `server.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            server.asked.append(json.loads(self.rfile.read(length)))
            server.keys.append(self.headers.get("Authorization"))
            server.paths.append(self.path)
            self.send_response(server.status)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in server.events:
                if isinstance(event, float):
                    self.wfile.flush()
                    time.sleep(event)
                    continue
                if isinstance(event, threading.Event):
                    event.wait(20.0)
                    continue
                data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
                try:
                    self.wfile.write(data)
                    self.wfile.flush()
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


DONE = b"data: [DONE]\n\n"


def words(text: str, **more: Any) -> dict[str, Any]:
    """Return an event that adds words to the answer."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
