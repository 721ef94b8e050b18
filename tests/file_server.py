"""A web server on loopback that serves one file, with Range, and fails in ways a test asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass
class Serving:
    """What the server does; a test may change it between requests."""

    content: bytes
    tag: str | None = '"1"'
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next requests, instead of an answer."""
    cuts: list[int] = field(default_factory=list)
    """Bytes of the bodies of the next answers, after which the connection is closed."""
    stall: Event | None = None
    """If set, a body stops after half until the event happens."""
    headers: dict[str, str] = field(default_factory=dict)
    length: bool = True
    asked: list[str | None] = field(default_factory=list)
    """The Range of each request."""
    url: str = ""


class Server(ThreadingHTTPServer):
    """A server on a free port of loopback."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.serving = serving


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's `Serving` says."""

    server: "Server"

    def do_GET(self) -> None:
        serving = self.server.serving
        serving.asked.append(self.headers.get("Range"))
        if serving.statuses:
            self.send_error(serving.statuses.pop(0))
            return
        body, total = serving.content, len(serving.content)
        start = self._start()
        if start >= total and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if serving.length:
            self.send_header("Content-Length", str(total - start))
        if serving.tag is not None:
            self.send_header("ETag", serving.tag)
        for name, value in serving.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(body[start:])

    def _start(self) -> int:
        serving = self.server.serving
        wanted = self.headers.get("Range")
        if wanted is None or not serving.ranges:
            return 0
        if self.headers.get("If-Range") not in (None, serving.tag):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send(self, body: bytes) -> None:
        serving = self.server.serving
        if serving.cuts:
            body = body[: serving.cuts.pop(0)]
        if serving.stall is not None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            serving.stall.wait(20)
            body = body[len(body) // 2 :]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(content: bytes, **options: Any) -> Iterator[Serving]:
    """Serve a file at `url` until the block ends."""
    serving = Serving(content, **options)
    server = Server(serving)
    serving.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        if serving.stall is not None:
            serving.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()
