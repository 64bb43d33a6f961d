"""An MLflow client that logs until a file appears, and notes what the server has acknowledged.

    python -m tests.peers.steady_client NAME FOLDER STOP [PAUSE_S [FILE_KB]]

Where the server is and how MLflow's client behaves is in the environment, as for any other client.
FOLDER gets NAME.jsonl: a line for each call, with what must be found again, or the error.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

BATCHES = 5
METRICS = 5


def main(words: list[str]) -> int:
    """Log one run after the other until STOP exists; returns the exit code."""
    name, folder, stop = words[0], Path(words[1]), Path(words[2])
    pause_s = float(words[3]) if len(words) > 3 else 0.0
    size = int(words[4]) * 1000 if len(words) > 4 else 20_000

    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    file = folder / f"{name}.bin"
    number = 0
    with (folder / f"{name}.jsonl").open("a", buffering=1) as notes:
        note = Notes(notes, pause_s)
        title = f"of {name} {time.time_ns()}"
        experiment = note("experiment", lambda: client.create_experiment(title))
        if experiment is None:
            print("no experiment was made", file=sys.stderr)
            return 1
        while not stop.exists():
            number += 1
            run = note("run", lambda: client.create_run(experiment, run_name=f"{name}-{number}"))  # noqa: B023
            if run is None:
                continue
            at = run.info.run_id
            for step in range(BATCHES):
                metrics = [Metric(f"m{i}", float(step), 1, step) for i in range(METRICS)]
                params = [Param(f"p{step}", f"{name} {number}")]
                note(
                    "batch",
                    lambda: client.log_batch(at, metrics=metrics, params=params),  # noqa: B023
                    run=at,
                    step=step,
                    value=f"{name} {number}",
                )
            data = random.randbytes(size)
            file.write_bytes(data)
            note(
                "artifact",
                lambda: client.log_artifact(at, str(file)),  # noqa: B023
                run=at,
                path=file.name,
                sha256=hashlib.sha256(data).hexdigest(),
            )
            note("end", lambda: client.set_terminated(at), run=at)  # noqa: B023
    return 0


class Notes:
    """Writes a line for each call."""

    def __init__(self, file: TextIO, pause_s: float) -> None:
        self._file = file
        self._pause_s = pause_s

    def __call__(self, kind: str, call: Callable[[], Any], **kept: object) -> Any:
        """Make the call; its answer, or None when it failed."""
        began = time.time()
        error, found = "", None
        try:
            found = call()
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"[:500]
        line = {"kind": kind, "at": began, "took": time.time() - began, "error": error, **kept}
        if kind == "run" and found is not None:
            line["run"] = found.info.run_id
        if kind == "experiment":
            line["experiment"] = found
        self._file.write(json.dumps(line) + "\n")
        time.sleep(self._pause_s)
        return True if found is None and not error else found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
