"""A reverse proxy that alters some answers, to test whether clients notice."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Called with (method, path, status, body) of an answer; returns the status and body to send.
Fault = Callable[[str, str, int, bytes], tuple[int, bytes]]
UNSENT = ("content-length", "transfer-encoding", "connection")


@contextmanager
def proxy(server_port: int, fault: Fault) -> Iterator[int]:
    """Forward requests to a loopback server. Yields the proxy's own port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection("127.0.0.1", server_port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in UNSENT}
            upstream.request(self.command, self.path, content or None, headers)
            answer = upstream.getresponse()
            status, body = fault(self.command, self.path, answer.status, answer.read())
            upstream.close()
            self.send_response(status)
            for name, value in answer.getheaders():
                if name.lower() not in UNSENT:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Log nothing; pytest shows the report."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield listener.server_port
    finally:
        listener.shutdown()
        listener.server_close()
