"""A process that uses the plugin as MLflow does, and a handle of it for tests.

Its Python is another environment's: the first half runs there, as a program of its own, and reads
a line of JSON for each call from its standard input.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The size of what the writer logs, in bytes.
PIECE_BYTES = 100_000


def digest(path: str | Path) -> str:
    """SHA-256 of a file, which is not loaded into memory."""
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


class Program:
    """What the process can be asked. uri: of the artifacts."""

    def __init__(self, uri: str) -> None:
        from mlflow.store.artifact import artifact_repository_registry as registry

        self._repository: Any = registry.get_artifact_repository(uri)

    def use(self, uri: str, variables: Mapping[str, str | None]) -> None:
        """Use another address, with these variables; None: without it."""
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self.__init__(uri)  # type: ignore[misc]

    def log(self, file: str, path: str | None = None) -> None:
        self._repository.log_artifact(file, path)

    def log_all(self, folder: str, path: str | None = None) -> None:
        self._repository.log_artifacts(folder, path)

    def list(self, path: str | None = None) -> Any:
        found = self._repository.list_artifacts(path)
        return [[one.path, one.is_dir, one.file_size] for one in found]

    def download(self, path: str, folder: str) -> str:
        """Download a file or folder; returns where it is."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        return str(self._repository.download_artifacts(path, folder))

    def log_slowly(self, file: str, piece_bytes: int, pause_s: float) -> int:
        """Log a file with a pause after each piece; returns how often it was begun."""
        repository: Any = importlib.import_module("mlflow_hdfs.repository")
        begun = 0

        def pieces(source: Any) -> Iterator[bytes]:
            nonlocal begun
            begun += 1
            while piece := source.read(piece_bytes):
                yield piece
                time.sleep(pause_s)

        kept, repository._pieces = repository._pieces, pieces
        self.log(file)
        repository._pieces = kept
        return begun

    def delete(self, path: str | None = None) -> None:
        self._repository.delete_artifacts(path)

    def make_folder(self, path: str, owner: str) -> None:
        """For the superuser: a folder that belongs to another."""
        client = self._repository._client
        client.mkdirs(path, 0o755, True)
        client.set_owner(path, owner, None)

    def list_in_child(self) -> Any:
        """What a child that was forked lists, and how it has ended."""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.write(write, json.dumps(self.list()).encode())
            sys.stdout = sys.stderr  # not ours to flush
            sys.exit(0)
        listed = json.loads(os.read(read, 1 << 16))
        return [listed, os.waitpid(child, 0)[1]]

    def peak_mib(self) -> float:
        """The most memory that the process has had."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def write(self, folder: str, name: str, pause_s: float, anew: bool) -> int:
        """Log files until FOLDER/stop appears; returns how many could not be logged.

        anew: connect for each file, as a process that has just started.

        FOLDER/NAME gets a line for each that was acknowledged: path, SHA-256, seconds since 1970.
        """
        connections: Any = importlib.import_module("mlflow_hdfs.connection")
        failed = number = 0
        with Path(folder, name).open("w") as acknowledged:
            while not Path(folder, "stop").exists():
                number += 1
                if anew:
                    connections._clients.clear()
                file = Path(folder, f"{name}-{number}.bin")
                file.write_bytes(os.urandom(PIECE_BYTES))
                try:
                    self.log(str(file), name)
                except Exception as error:
                    failed += 1
                    print(
                        f"{time.time():.0f} {name}-{number}: {error}", file=sys.stderr, flush=True
                    )
                else:
                    line = f"{name}/{file.name} {digest(file)} {time.time()}"
                    print(line, file=acknowledged, flush=True)
                    os.fsync(acknowledged.fileno())
                file.unlink()
                _pause(Path(folder, "stop"), pause_s)
        return failed

    def lost(self, folder: str, name: str) -> Any:
        """The acknowledged paths that cannot be read any more, or have other bytes."""
        missing = []
        for line in Path(folder, name).read_text().splitlines():
            path, wanted, _ = line.split()
            back = self.download(path, f"{folder}/back")
            if digest(back) != wanted:
                missing.append(path)
            Path(back).unlink()
        return missing


def _pause(stop: Path, pause_s: float) -> None:
    until_s = time.monotonic() + pause_s
    while time.monotonic() < until_s and not stop.exists():
        time.sleep(0.1)


def serve(uri: str) -> None:
    """Answer each line of the standard input."""
    program = Program(uri)
    for line in sys.stdin:
        name, *words = json.loads(line)
        try:
            answer = {"returned": getattr(program, name)(*words)}
        except Exception as error:
            code = getattr(error, "error_code", "")
            answer = {"raised": str(error), "code": code, "type": type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Refused(Exception):  # noqa: N818 - it is what the test asks for
    """What the plugin has raised. code: of MLflow."""

    def __init__(self, answer: Mapping[str, str]) -> None:
        super().__init__(answer["raised"])
        self.code, self.type = answer["code"], answer["type"]


@dataclass(frozen=True)
class Client:
    """The process. uri: of its artifacts."""

    process: subprocess.Popen[str]
    uri: str

    def send(self, name: str, *words: object) -> None:
        """Ask, without waiting for the answer."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([name, *words]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for it. Raises Refused."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the client has ended: {self.process.poll()}"
        found = json.loads(line)
        if "raised" in found:
            raise Refused(found)
        return found["returned"]

    def __call__(self, name: str, *words: object) -> Any:
        self.send(name, *words)
        return self.answer()


@contextmanager
def running(
    python: Path, uri: str, variables: Mapping[str, str], log: Path | None = None
) -> Iterator[Client]:
    """Run the process. python: the interpreter of an environment with the plugin."""
    kept = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "HOME": os.environ["HOME"]}
    with (log or Path(os.devnull)).open("a") as errors:
        process = subprocess.Popen(
            [str(python), "-s", __file__, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **variables},
        )
    try:
        yield Client(process, uri)
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    serve(sys.argv[1])
