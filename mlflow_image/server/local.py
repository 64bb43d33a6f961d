"""MLflow servers on this host's loopback, from the image's locked wheels, for measuring.

`stock` is `mlflow server` as `pip install mlflow` installs it; `ours` is the image's launcher.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
from filelock import FileLock

from mlflow_image import command, files
from mlflow_image.errors import Failure
from mlflow_image.inputs import plugin
from mlflow_image.paths import HERE, cache
from mlflow_image.server import ready
from mlflow_settings import proxy, render
from mlflow_settings.blocks.block import RUN
from mlflow_settings.settings import Settings

LIBRARY = HERE.image_files / "usr" / "lib" / "mlflow-image"
START_TIMEOUT_S = 180.0
#: As `pip install mlflow` runs it; the image's wheels add uvloop and httptools.
STOCK_UVICORN = "--loop asyncio --http h11"


def environment() -> Path:
    """A Python environment with the image's wheels, for this host's Python version.

    MLFLOW_IMAGE_NATIVE names an existing one. Otherwise it is created once for each lock file and
    version of the plugin in the user's cache, which takes a minute or two. Raises Failure.
    """
    if named := os.environ.get("MLFLOW_IMAGE_NATIVE"):
        return Path(named)
    lock = HERE.locks / f"image-{sys.version_info.major}.{sys.version_info.minor}.txt"
    made_of = (lock, *plugin.sources().values())
    key = hashlib.sha256(b"".join(path.read_bytes() for path in made_of)).hexdigest()[:16]
    place = cache() / "native" / key
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / f"{key}.lock"):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            command.run([sys.executable, "-m", "venv", place])
            pip: list[str | Path] = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
            command.run([*pip, "--require-hashes", "-r", lock])
            with tempfile.TemporaryDirectory() as folder:
                command.run([*pip, "--no-deps", "--no-index", plugin.build(Path(folder))])
        (place / "complete").touch()  # the cache removes the least recently used first
    return place


def launch_files() -> Path:
    """What the image has in /opt/mlflow/share/mlflow-image, created on this host.

    Created once for each environment and version of the launcher; takes about 20 s.
    """
    code = sorted((LIBRARY / "mlflow_launch").rglob("*.py"))
    library = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
    python = environment() / "bin" / "python"
    key = hashlib.sha256(f"{python} {library}".encode()).hexdigest()[:16]
    place = cache() / "native" / f"share-{key}"
    with FileLock(place.parent / f"share-{key}.lock"):
        if not place.exists():
            with files.new_folder(place) as folder:
                command.run([python, "-s", LIBRARY / "make-empty-database", folder])
        (place / "preload.txt").touch()  # the cache removes first what was used least recently
    return place


@contextlib.contextmanager
def stock(
    folder: Path,
    workers: int,
    *,
    database: str = "",
    variables: Mapping[str, str] | None = None,
    words: Sequence[str] = (),
) -> Iterator[str]:
    """Run `mlflow server` with a new SQLite file in `folder`; yields its URL once it answers.

    database: the URI of another database. variables: what its driver needs. words: more arguments.
    """
    port = free_port()
    line = [
        *(str(environment() / "bin" / "mlflow"), "server", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", str(workers), "--uvicorn-opts", STOCK_UVICORN),
        *("--backend-store-uri", database or f"sqlite:///{folder}/mlflow.db", "--serve-artifacts"),
        *("--artifacts-destination", f"{folder}/artifacts", *words),
    ]
    given = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(variables or {})}
    with serving(line, folder, given, port) as url:
        yield url


@contextlib.contextmanager
def ours(
    folder: Path,
    workers: int,
    *,
    job_execution: bool = False,
    library: Path = LIBRARY,
    stores: Settings | None = None,
    identity: proxy.Identity | None = None,
) -> Iterator[str]:
    """Run the image's launcher with the image's settings; yields its URL once it answers.

    library: another copy of the launcher, changed for a measurement. stores: settings with the
    stores to use, instead of a file and a directory in the folder, and the server's other keys.
    identity: the certificate of its proxy (local_proxy.py).
    """
    share = launch_files()
    files.write(folder / "mlflow.db", (share / "empty.sqlite").read_bytes())
    port = free_port()
    chosen = stores or Settings()
    server = replace(
        chosen.server, host="127.0.0.1", port=port, workers=workers, job_execution=job_execution
    )
    configure(folder, replace(chosen, server=server), identity)
    words = [str(environment() / "bin" / "python"), "-I", str(library / "mlflow-launch")]
    places = {
        "MLFLOW_IMAGE_RUN": str(folder),
        "MLFLOW_IMAGE_PRELOAD": str(share / "preload.txt"),
        "RUNTIME_DIRECTORY": str(folder),
    }
    answered: Callable[[str], bool] = answers
    if identity:
        # nginx starts afterwards: the server is asked by its own probe, and not by way of it.
        (folder / "url").unlink()
        nginx = folder / Path(proxy.CONFIGURATION).name
        files.write_private(nginx, nginx.read_text().replace(proxy.PAGES, f"{share}/ui"))
        answered = functools.partial(has_said_ready, folder / "server.log")
    with serving(words, folder, places, port, answered) as url:
        yield url


def launchers() -> list[psutil.Process]:
    """The launchers that this process has started and that still run."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended, and waits to be reaped
            if any(word.endswith("/mlflow-launch") for word in child.cmdline()):
                found.append(child)
    return found


def has_said_ready(log: Path, _url: str) -> bool:
    """Whether the launcher has asked its server, and got an answer."""
    return "ready: a call" in log.read_text(errors="replace")


def configure(
    folder: Path, chosen: Settings, identity: proxy.Identity | None = None
) -> Mapping[str, str]:
    """Write what mlflow-configure would give to a launcher whose data are in the folder.

    identity: the certificate of its proxy. Returns the server's environment.
    """
    for file in render.render(chosen, identity=identity):
        # A path of the image, or a part of a variable: each has its place in the folder.
        content = file.content
        below_run = file.path.startswith(f"{RUN}/")
        target = folder / (file.path.removeprefix(f"{RUN}/") if below_run else Path(file.path).name)
        target.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):  # a keytab
            files.write_private(target, content)
            continue
        for place in (*(f"{RUN}-{one}" for one in ("proxy", "nginx", "socket", "tracking")), RUN):
            content = content.replace(f"{place}/", f"{folder}/")
        content = content.replace("/var/lib/mlflow", str(folder))
        files.write_private(target, content)
    document = json.loads((folder / "server.json").read_text())
    environment: Mapping[str, str] = document["environment"]
    return environment


def own_environment() -> dict[str, str]:
    """This process's variables without those that change which stores a server uses, and how."""
    ours = ("AWS_", "MLFLOW_", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextlib.contextmanager
def serving(
    words: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    port: int,
    answered: Callable[[str], bool] | None = None,
) -> Iterator[str]:
    """Run a server and its workers while the body runs; raises Failure with its log.

    answered: whether the server at a URL has started; by default, whether it answers there.
    """
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    url = f"http://127.0.0.1:{port}"
    with program(
        words,
        folder / "server.log",
        functools.partial(answered or answers, url),
        environment={**own_environment(), **quiet, **variables},
        start_s=START_TIMEOUT_S,
        stop_s=40,
    ):
        yield url


@contextlib.contextmanager
def program(
    words: Sequence[str],
    log: Path,
    answered: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    start_s: float,
    stop_s: float,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the folder of its log while the body runs, from its first answer on.

    Raises Failure with the end of the log when it ends or does not answer in start_s. It has stop_s
    to end by itself; then it is killed with everything that it has started.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + start_s
        while not answered():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended before it answered" if ended else f"did not answer in {start_s:g} s"
                log_text = log.read_text(errors="replace")
                raise Failure(f"{words[0]} {what}", evidence=command.last_lines(log_text))
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=stop_s)
        command.kill_group(process.pid)
        process.wait()


def free_port() -> int:
    """A port on the loopback that is free at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a request that reads the server's database succeeds."""
    return not ready.probe(url + ready.MLFLOW_PROBE, timeout_s=5)
