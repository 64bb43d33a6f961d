"""A loopback proxy that serves the indexes of a package archive which this host has fetched."""

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
    """Serve apt's `lists` folder under the archive's own URLs.

    Yields the port and a list of the paths that were requested and found. The files are signed
    with the archive's real key, so the client needs the archive's keyring.
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
            reader = ["/usr/lib/apt/apt-helper", "cat-file", str(files[0])]  # also decompresses
            content = subprocess.run(reader, capture_output=True, check=True).stdout
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], served
    finally:
        server.shutdown()
        server.server_close()
