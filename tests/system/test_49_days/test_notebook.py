"""examples/notebook/: executed against a VM, with what `client-env` prints and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from mlflow_image.paths import HERE
from tests.peers import notebook, page

from .conftest import PASSWORD, USER, Day, row

pytestmark = pytest.mark.full

ROW = row("the notebook")
MODEL, EXPERIMENT = f"WineQuality {USER}", f"red wine {USER}"
RUNS = ("alpha 1.0", "alpha 0.1", "alpha 0.01")


@dataclass(frozen=True)
class Executed:
    """The server after the notebook has run."""

    day: Day
    folder: Path
    seconds: float

    def call(self, path: str, **values: object) -> Any:
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(self.day.ca)
            session.auth = (USER, PASSWORD)
            url = f"{self.day.url}/api/2.0/mlflow/{path}"
            answer = (
                session.post(url, json=values)
                if values.pop("post", 0)
                else session.get(url, params={name: str(value) for name, value in values.items()})
            )
            assert answer.ok, answer.text
            return answer.json()

    @property
    def experiment(self) -> str:
        found = self.call("experiments/get-by-name", experiment_name=EXPERIMENT)
        return str(found["experiment"]["experiment_id"])

    @property
    def runs(self) -> dict[str, Any]:
        """Each run by its name."""
        found = self.call("runs/search", post=1, experiment_ids=[self.experiment])["runs"]
        return {one["info"]["run_name"]: one for one in found}


@pytest.fixture(scope="module")
def executed(day: Day, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executed]:
    folder = tmp_path_factory.mktemp("notebook") / "copy"
    begun_s = time.monotonic()
    done = notebook.execute(folder, day.client_env("notebook"))
    assert done.returncode == 0, done.stderr
    yield Executed(day, folder, time.monotonic() - begun_s)


@pytest.mark.budget(900)
@pytest.mark.verifies(ROW)
def test_the_notebook_logs_its_runs(
    executed: Executed, record_property: Callable[[str, object], None]
) -> None:
    runs = executed.runs
    assert set(runs) == set(RUNS)
    for name, run in runs.items():
        assert run["info"]["status"] == "FINISHED"
        params = {one["key"]: one["value"] for one in run["data"]["params"]}
        assert params["elasticnet__alpha"] == name.split()[1], "autologged"
        metrics = {one["key"]: one["value"] for one in run["data"]["metrics"]}
        assert {"rmse", "mae", "r2", "training_r2_score"} <= set(metrics)
        listed = executed.call("artifacts/list", run_id=run["info"]["run_id"])["files"]
        assert {"predicted.png", "coefficients.png"} <= {one["path"] for one in listed}
    record_property("figure", f"{executed.seconds:.0f} s, 3 runs")


@pytest.mark.budget(60)
@pytest.mark.verifies(ROW)
def test_the_best_model_is_registered_with_an_alias(executed: Executed) -> None:
    def rmse(run: Any) -> float:
        return float(next(m["value"] for m in run["data"]["metrics"] if m["key"] == "rmse"))

    best = min(executed.runs.values(), key=rmse)
    found = executed.call("registered-models/alias", name=MODEL, alias="champion")
    version = found["model_version"]
    assert version["run_id"] == best["info"]["run_id"]
    assert f"version {version['version']} of {MODEL} is the champion" in notebook.outputs(
        executed.folder
    )


@pytest.mark.budget(60)
@pytest.mark.verifies(ROW)
def test_the_model_has_a_signature_and_an_example_of_its_input(executed: Executed) -> None:
    found = executed.call("registered-models/alias", name=MODEL, alias="champion")
    model = found["model_version"]["source"].removeprefix("models:/")
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(executed.day.ca)
        session.auth = (USER, PASSWORD)

        def file(name: str) -> str:
            url = f"{executed.day.url}/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files"
            answer = session.get(url, params={"artifact_file_path": name})
            assert answer.ok, answer.text
            return answer.text

        described = file("MLmodel")
        example = json.loads(file("input_example.json"))
    assert "fixed acidity" in described.partition("signature:")[2]
    assert example["columns"][0] == "fixed acidity"
    assert len(example["data"]) == 3


@pytest.mark.skipif(bool(page.missing()), reason=f"missing: {page.missing()}")
@pytest.mark.budget(120)
@pytest.mark.verifies(ROW)
def test_the_plots_are_in_the_artifact_view(executed: Executed) -> None:
    screenshots = HERE.state / "screenshots" / "notebook"
    screenshots.mkdir(parents=True, exist_ok=True)
    day = executed.day
    reached = f"127.0.0.1:{urlsplit(day.url).port}"
    errand = page.Errand(
        *(day.url, reached, str(day.ca), USER, PASSWORD, executed.experiment, str(screenshots)),
        runs=RUNS,
        file=None,
        pictures=("predicted.png", "coefficients.png"),
        model=MODEL,
    )
    found = page.look(errand)
    assert found["refused"] == []
    assert {"predicted", "coefficients"} <= set(found["steps"])


@pytest.mark.budget(60)
def test_without_the_server_s_address_the_notebook_says_what_to_do(tmp_path: Path) -> None:
    done = notebook.execute(tmp_path / "copy")
    assert done.returncode != 0
    assert "MLFLOW_TRACKING_URI is not set: replace the first cell with what" in done.stderr
