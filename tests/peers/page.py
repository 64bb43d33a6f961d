"""What MLflow's pages show to a person, with a real browser: tests/peers/browser.py, run by uv."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from mlflow_image import command
from mlflow_image.inputs import wheels
from mlflow_image.paths import HERE

PROGRAM = Path(__file__).parent / "browser.py"
CHROMIUM = Path("/usr/bin/chromium")
FILE, MODEL = ("report.txt", "wine")
TEXT = "The quality of 1599 wines."
ALPHAS = {"elastic-net-1": 0.3, "elastic-net-2": 0.7}
STEPS = 40
TIMEOUT_S = 400


@dataclass(frozen=True)
class Errand:
    """What to look at; the fields are those of browser.py."""

    address: str
    connect_to: str
    ca: str
    name: str
    password: str
    experiment: str
    screenshots: str
    runs: tuple[str, ...] = tuple(ALPHAS)
    file: tuple[str, str] | None = (FILE, TEXT)
    pictures: tuple[str, ...] = ()
    model: str = MODEL


def missing() -> str:
    """What this host lacks for it; "" when all is there."""
    lacking = {"chromium": not CHROMIUM.exists(), "certutil": not shutil.which("certutil")}
    return ", ".join(name for name, lacks in lacking.items() if lacks)


def fill(client: requests.Session, url: str) -> str:
    """Log two runs with charts and a file, and register a model; returns the experiment's id."""

    def call(path: str, **values: object) -> Any:
        answer = client.post(f"{url}/api/2.0/mlflow/{path}", json=values, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    experiment = str(call("experiments/create", name="wine-quality")["experiment_id"])
    run: dict[str, Any] = {}
    for name, alpha in ALPHAS.items():
        made = call("runs/create", experiment_id=experiment, run_name=name, start_time=1)
        run = made["run"]["info"]
        metrics = [
            {"key": key, "value": value, "timestamp": step, "step": step}
            for step in range(STEPS)
            for key, value in (("rmse", 0.6 + 1 / (1 + step * alpha)), ("r2", step * alpha / 100))
        ]
        params = [{"key": "alpha", "value": str(alpha)}, {"key": "l1_ratio", "value": "0.5"}]
        call("runs/log-batch", run_id=run["run_id"], metrics=metrics, params=params)
        place = run["artifact_uri"].partition(":")[2].lstrip("/")
        artifacts = f"{url}/api/2.0/mlflow-artifacts/artifacts/{place}"
        assert client.put(f"{artifacts}/{FILE}", data=TEXT, timeout=60).status_code == 200
        call("runs/update", run_id=run["run_id"], status="FINISHED", end_time=2000)
    call("registered-models/create", name=MODEL)
    source = {"source": f"runs:/{run['run_id']}/model", "run_id": run["run_id"]}
    call("model-versions/create", name=MODEL, **source)
    return experiment


def look(errand: Errand) -> dict[str, Any]:
    """Open everything that the errand names; returns what browser.py prints."""
    uv = Path(sys.executable).parent / "uv"
    words = [
        *(str(uv), "run", "--quiet", "--no-project", "--python", sys.executable),
        *("--with-requirements", str(HERE.locks / "browser.txt"), str(PROGRAM)),
    ]
    done = command.run(
        words,
        stdin=json.dumps(asdict(errand)),
        env=wheels.uv_environment(),
        timeout_s=TIMEOUT_S,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
