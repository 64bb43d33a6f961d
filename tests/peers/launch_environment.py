"""Compares the environment that the launcher gives its workers with a stock `mlflow server`'s.

A program of its own, for the image's Python: `/opt/mlflow/bin/python launch_environment.py`. It
starts a real stock server on a temporary database, reads the environment of its uvicorn process,
gets the same through mlflow_launch/command.py without a server, and prints the differences as
JSON. The exit code is 1 when there are any, so that an upgrade of MLflow which changes either is
noticed. It also compares MLflow's default list of hosts with mlflow_settings/blocks/hosts.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIBRARIES = (
    Path("/usr/lib/mlflow-image"),
    Path(__file__).resolve().parents[2] / "image_files/usr/lib/mlflow-image",
)
# Set on both sides, with values that always differ.
DIFFERENT_EACH_TIME = {
    "_MLFLOW_SERVER_BOOT_ID": "a random number for every start",
}
# Set on one side only, for a reason.
EXPLAINED = {
    "OPENBLAS_NUM_THREADS": "the launcher forks its workers, which needs a single thread",
    "LC_CTYPE": "set by the interpreter itself when it starts in the C locale (PEP 538)",
}
PORT = 8917
PATIENCE_S = 600


def main() -> int:
    """Print the differences; returns 1 when any of them is unexplained."""
    sys.path.insert(0, str(next(path for path in LIBRARIES if path.is_dir())))
    with tempfile.TemporaryDirectory() as scratch:
        given = given_environment(Path(scratch))
        stock = stock_environment(given, Path(scratch))
        ours = launcher_environment(given)
    names = sorted((set(stock) | set(ours)) - set(DIFFERENT_EACH_TIME) - set(EXPLAINED))
    found: dict[str, object] = {
        name: {"stock": stock.get(name), "launcher": ours.get(name)}
        for name in names
        if stock.get(name) != ours.get(name)
    }
    for name in DIFFERENT_EACH_TIME:
        if not (stock.get(name) and ours.get(name)):
            found[name] = {"stock": name in stock, "launcher": name in ours}
    found |= host_differences()
    private = [name for name in stock if name.startswith("_MLFLOW")]
    if len(private) < 5:
        found["stock server"] = f"has only {private}: this comparison needs a new look"
    print(json.dumps({"compared": names, "differences": found}, indent=2))
    return 1 if found else 0


def given_environment(scratch: Path) -> dict[str, str]:
    """What mlflow-configure would render for a server in `scratch`, and a few variables more."""
    from mlflow_settings import render, settings
    from mlflow_settings.blocks.artifact_store import ArtifactStore
    from mlflow_settings.blocks.backend_store import BackendStore
    from mlflow_settings.blocks.server import Server

    chosen = settings.Settings(
        server=Server(host="127.0.0.1", port=PORT, allowed_hosts=("a.example.com",)),
        backend_store=BackendStore(str(scratch / "mlflow.db")),
        artifact_store=ArtifactStore(str(scratch / "artifacts")),
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **render.environment(chosen)}


def stock_environment(given: dict[str, str], scratch: Path) -> dict[str, str]:
    """Start a stock server, and read the environment of the uvicorn that it starts."""
    log = (scratch / "stock.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server"],
        env=given,
        cwd=scratch,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if server.poll() is not None:
                break
            for child in children_of(server.pid):
                if b"uvicorn" in Path(f"/proc/{child}/cmdline").read_bytes():
                    entries = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
                    pairs = (entry.decode().partition("=") for entry in entries if entry)
                    return {name: value for name, _, value in pairs}
            time.sleep(0.2)
        output = (scratch / "stock.log").read_text()
        raise SystemExit(f"the stock server never started uvicorn:\n{output}")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def children_of(pid: int) -> list[int]:
    """The direct children of a process, from proc(5)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def launcher_environment(given: dict[str, str]) -> dict[str, str]:
    """The environment of the launcher's workers, from the same settings."""
    code = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]); "
        "from mlflow_launch import applications, command; "
        "found = command.started(applications.Open())(); "
        "print(json.dumps({**os.environ, **found.environment}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sys.path[0]],
        env=given,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    environment: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return environment


def host_differences() -> dict[str, object]:
    """How MLflow's default list of allowed hosts differs from ours, which replaces it."""
    from mlflow.server.security_utils import get_default_allowed_hosts, get_private_ip_patterns

    from mlflow_settings.blocks import hosts

    # Ours has no patterns for private addresses: mlflow_launch/guards/doors.py compares addresses.
    theirs = set(get_default_allowed_hosts()) - set(get_private_ip_patterns())
    ours = set(hosts.DEFAULT_ALLOWED_HOSTS)
    if theirs == ours:
        return {}
    return {"allowed hosts": {"MLflow": sorted(theirs - ours), "ours": sorted(ours - theirs)}}


if __name__ == "__main__":
    sys.exit(main())
