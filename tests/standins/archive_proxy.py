"""A proxy on the loopback that serves a package archive's indexes as this host fetched them."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit


@contextlib.contextmanager
def serving(lists: Path) -> Iterator[tuple[int, list[str]]]:
    """Serve apt's `lists` folder under the archive's own addresses.

    Yields the port and the paths that were asked for and found. The files are signed by
    the archive's real key, so whoever reads them must have its keyring.
    """
    served: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            name = f"{address.hostname}{address.path}".replace("/", "_")
            files = [file for end in ("", ".lz4") if (file := lists / (name + end)).is_file()]
            if not files:
                self.send_error(404)
                return
            served.append(address.path)
            reader = ["/usr/lib/apt/apt-helper", "cat-file", str(files[0])]  # also unpacks
            content = subprocess.run(reader, capture_output=True, check=True).stdout
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], served
    finally:
        server.shutdown()
        server.server_close()
