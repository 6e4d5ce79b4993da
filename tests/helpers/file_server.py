"""A real HTTP server on loopback that serves files, and misbehaves as it is told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 2**14


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path. A path in `behaviours` is served by its function, with the request's handler.

    Attributes:
        ranges: the Range header of each request, in order, None where there was none.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.behaviours: dict[str, Callable[[Handler], None]] = {}
        self.ranges: dict[str, list[str | None]] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address) -> None:
        """Connections that are dropped on purpose are no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.ranges.setdefault(self.path, []).append(self.headers["Range"])
        behaviour = self.server.behaviours.get(self.path)
        if behaviour:
            behaviour(self)
        elif self.path in self.server.files:
            self.send_file(self.server.files[self.path])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    @property
    def attempt(self) -> int:
        """How often this path has been asked for, from 1."""
        return len(self.server.ranges[self.path])

    def send_file(
        self,
        content: bytes,
        *,
        ranges: bool = True,
        stop_after: int | None = None,
        announce: bool = True,
        etag: str | None = None,
        kind: str = "application/octet-stream",
        attachment: str | None = None,
    ) -> None:
        """Sends what was asked for; `stop_after` that many bytes of it the connection is dropped."""
        start, asked = 0, self.headers["Range"]
        current = self.headers["If-Range"] in (None, etag)
        if asked and ranges and current:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if announce:
            self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", kind)
        if etag:
            self.send_header("ETag", etag)
        if attachment:
            self.send_header("Content-Disposition", f'attachment; filename="{attachment}"')
        self.end_headers()
        body = memoryview(content)[start:][:stop_after]
        for position in range(0, len(body), CHUNK):
            self.wfile.write(body[position : position + CHUNK])
        if stop_after is not None or not announce:
            self.close_connection = True
            self.wfile.flush()

    def log_message(self, *arguments) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs until the block ends."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
