"""The order of the questions: each one only when those that it depends on were answered well."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client_check import environment, network, stores, versions, write
from client_check.environment import Kit
from client_check.report import Report
from client_check.server import Server


def main() -> int:
    """Print the report; the exit code is 1 when anything is wrong."""
    folder = Path(__file__).resolve().parents[1]
    kit = environment.read(folder)
    report = Report()
    report.check("kit", lambda: environment.check(kit))
    report.check("Python", lambda: versions.python(str(kit.said.get("python", ""))))
    if kit.url and "SERVER_ADDRESS" not in kit.url and not environment.url_fault(kit.url):
        _server(kit, report)
    if report.faults:
        sys.stdout.write(f"{report.faults} of these need you: see the lines with !!\n")
    return 1 if report.faults else 0


def _server(kit: Kit, report: Report) -> None:
    server = Server(network.target(kit.url, environment.URI))
    report.check("name", server.resolve)
    report.check("port", server.connect, after=("name",))
    report.check("TLS", server.secure, after=("port",))
    report.check("server", server.identify, after=("TLS",))
    report.check("clock", server.clock, after=("port",))
    report.check("sign-in", server.sign_in, after=("server",))
    expected = str(kit.said.get("mlflow", ""))
    report.check("MLflow", lambda: versions.mlflow(server.version or expected))
    own_store = _uses_store(kit)
    if own_store:
        report.check("store", lambda: stores.reach(kit))
    said: Mapping[str, Any] = {}

    def written() -> str:
        nonlocal said
        environment.require_replaced(*environment.KEYS)
        more = ["with-file"] if not own_store or "store" in report.passed else []
        said = write.work(kit.folder, "write", write.experiment(), *more)
        return write.check(said)

    report.check("write", written, after=("sign-in", "MLflow"))
    stored = ("store", "write") if own_store else ("write",)
    report.check("artifacts", lambda: stores.check(said, server, kit), after=stored)


def _uses_store(kit: Kit) -> bool:
    """Whether clients use the store themselves."""
    way = kit.artifacts.get("way")
    if way == "presigned":
        return os.environ.get(stores.BY_URL, "true").lower() not in ("false", "0")
    return way in ("s3", "hdfs") or bool(os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
