"""A stand-in for uvicorn: answers 200 to every GET until SIGTERM."""

import http.server
import os
import signal
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def serve():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address = (os.environ["MLFLOW_HOST"], int(os.environ["MLFLOW_PORT"]))
    http.server.HTTPServer(address, Handler).serve_forever()
