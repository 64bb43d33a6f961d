"""What the image's server refuses and keeps beyond a stock one, natively, against real MLflow."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from mlflow_image.server import local

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
FOREIGN = (
    "s3://other-bucket/models",
    "S3://other-bucket/models",
    "gs://other-bucket/models",
    "https://elsewhere.example/models",
    "file:///etc",
    "/etc",
    "/var/lib/mlflow/beside",
    "models://profile@databricks/model/1",
)


@pytest.fixture(scope="module", params=["launcher", "stock command"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The URL and the folder of a server, and of one that runs MLflow's own command."""
    folder = tmp_path_factory.mktemp("guarded")
    with local.ours(folder, 1, job_execution=request.param != "launcher") as url:
        yield url, folder


def call(url: str, method: str, path: str, **content: object) -> requests.Response:
    return requests.request(method, url + path, json=content or None, timeout=60)


@pytest.mark.budget(180)
def test_an_uploaded_file_knows_its_length(server: tuple[str, Path]) -> None:
    url, folder = server
    assert requests.put(f"{url}{ARTIFACTS}/a/b/new.bin", data=b"x" * 1000, timeout=60).ok
    assert requests.get(f"{url}{ARTIFACTS}/a/b/new.bin", timeout=60).content == b"x" * 1000
    assert os.getxattr(folder / "artifacts/a/b/new.bin", "user.mlflow_image.length") == b"1000"


def test_an_artifact_whose_bytes_are_gone_is_an_error_and_no_empty_answer(
    server: tuple[str, Path],
) -> None:
    url, folder = server
    for name, left in (("emptied", 0), ("shortened", 10)):
        assert requests.put(f"{url}{ARTIFACTS}/{name}", data=b"x" * 1000, timeout=60).ok
        os.truncate(folder / "artifacts" / name, left)
        answer = requests.get(f"{url}{ARTIFACTS}/{name}", timeout=60)
        assert answer.status_code == 500
        assert f"{1000 - left} bytes of it are missing" in answer.text


def test_an_empty_artifact_is_still_one(server: tuple[str, Path]) -> None:
    url, _ = server
    assert requests.put(f"{url}{ARTIFACTS}/empty", data=b"", timeout=60).ok
    answer = requests.get(f"{url}{ARTIFACTS}/empty", timeout=60)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("location", FOREIGN)
def test_no_experiment_is_made_with_a_foreign_location(
    server: tuple[str, Path], location: str
) -> None:
    url, _ = server
    made = call(url, "POST", f"{API}/experiments/create", name=location, artifact_location=location)
    assert made.status_code == 400, made.text
    assert "stores artifacts in its own store only" in made.text or "Invalid" in made.text


@pytest.mark.parametrize("source", FOREIGN)
def test_no_model_version_is_made_from_a_foreign_source(
    server: tuple[str, Path], source: str
) -> None:
    url, _ = server
    call(url, "POST", f"{API}/registered-models/create", name="model")
    made = call(url, "POST", f"{API}/model-versions/create", name="model", source=source)
    assert made.status_code == 400, made.text
    assert "Invalid model version source" in made.text


def test_a_foreign_location_in_the_database_is_never_opened(server: tuple[str, Path]) -> None:
    url, folder = server
    made = call(url, "POST", f"{API}/experiments/create", name="from an older server").json()
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute(
            "UPDATE experiments SET artifact_location = 's3://other-bucket/old' "
            "WHERE experiment_id = ?",
            (made["experiment_id"],),
        )
        database.commit()
    run = call(url, "POST", f"{API}/runs/create", experiment_id=made["experiment_id"]).json()
    run_id = run["run"]["info"]["run_id"]
    listed = requests.get(f"{url}{API}/artifacts/list", params={"run_id": run_id}, timeout=60)
    assert listed.status_code == 400, listed.text
    assert "stores artifacts in its own store only" in listed.text


def test_no_folder_appears_beside_the_artifact_root(server: tuple[str, Path]) -> None:
    url, folder = server
    before = {path.name for path in folder.iterdir()}
    for location in (f"{folder}/beside", f"file://{folder}/artifacts/../beside"):
        call(url, "POST", f"{API}/experiments/create", name=location, artifact_location=location)
    requests.put(f"{url}{ARTIFACTS}/..%2f..%2fbeside/x", data=b"x", timeout=60)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("10.1.2.3", 200),
        ("192.168.7.8:8000", 200),
        ("172.31.0.1", 200),
        ("[fd12:3456::7]:8000", 200),
        ("[fc00::7]", 200),
        ("10.evil.example", 403),
        ("192.168.evil.example:8000", 403),
        ("172.16.evil.example", 403),
        ("10.1.2.3.evil.example", 403),
        ("10.1.2.3:evil", 403),
        ("fd00:evil.example", 403),
        ("172.32.0.1", 403),
        ("203.0.113.9", 403),
        ("mlflow.example.com", 403),
        ("", 403),
    ],
)
def test_only_addresses_pass_as_private_addresses(
    server: tuple[str, Path], host: str, status: int
) -> None:
    url, _ = server
    path = f"{API}/experiments/get?experiment_id=0"
    assert requests.get(url + path, headers={"Host": host}, timeout=60).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        f"{API}/experiments/create",
        "/ajax-api/2.0/mlflow/experiments/create",
        "/graphql",
        "/gateway/some-endpoint/mlflow/invocations",
        "/v1/traces",
        "/ajax-api/3.0/mlflow/assistant/message",
        "/no-such-route",
    ],
)
def test_a_foreign_page_changes_nothing_through_any_route(
    server: tuple[str, Path], path: str
) -> None:
    url, _ = server
    headers = {"Origin": "https://elsewhere.example"}
    answer = requests.post(url + path, json={}, headers=headers, timeout=60)
    assert (answer.status_code, answer.text) == (403, "Cross-origin request blocked")


RECORD = """
import io, json, os, sys, tempfile
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from mlflow.store.artifact import local_artifact_repo
from mlflow_launch.guards import artifacts, commit

artifacts.mend(local_artifact_repo)
commit._is_ext4 = lambda _: sys.argv[2] == "True"
write_out = commit._write_out
root = Path(tempfile.mkdtemp()).resolve()
given = root / "given" / "deep"
given.mkdir(parents=True)
(given / "model.bin").write_bytes(b"x" * 10)
calls = []
sync, replace = os.fsync, Path.replace

def recorded_sync(descriptor):
    sync(descriptor)
    calls.append(("synced", os.path.realpath(f"/proc/self/fd/{descriptor}")))

def recorded_replace(staged, target):
    replace(staged, target)
    calls.append(("renamed", os.path.realpath(staged), os.path.realpath(target)))

def recorded_write_out(descriptor):
    write_out(descriptor)
    calls.append(("written out", os.path.realpath(f"/proc/self/fd/{descriptor}")))

commit._write_out = recorded_write_out
os.fsync, Path.replace = recorded_sync, recorded_replace
repository = local_artifact_repo.LocalArtifactRepository(str(root / "store"))
done = {}
for name, way in {
    "file": lambda: repository.log_artifact(str(given / "model.bin"), "one/two"),
    "stream": lambda: repository.log_artifact_from_stream(io.BytesIO(b"y"), "model.bin", "three"),
    "folder": lambda: repository.log_artifacts(str(root / "given"), "four"),
}.items():
    calls.clear()
    way()
    done[name] = [[os.path.relpath(part, root) if part[0] == "/" else part for part in one]
                  for one in calls]
print(json.dumps(done))
"""


@pytest.mark.budget(60)
@pytest.mark.parametrize("ext4", [True, False])
def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_answer(ext4: bool) -> None:
    done = subprocess.run(
        [local.environment() / "bin" / "python", "-c", RECORD, local.LIBRARY, str(ext4)],
        capture_output=True,
        text=True,
        check=True,
    )
    calls = json.loads(done.stdout)
    for way, folder in (("file", "store/one/two"), ("stream", "store/three")):
        (renamed,) = (call for call in calls[way] if call[0] == "renamed")
        place = calls[way].index(renamed)
        assert renamed[2] == f"{folder}/model.bin"
        if ext4:  # one commit for the file and its name
            assert ["written out", renamed[1]] in calls[way][:place]
            assert ["synced", renamed[2]] in calls[way][place:]
        else:
            assert ["synced", renamed[1]] in calls[way][:place]
            assert ["synced", folder] in calls[way][place:]
    # The parents of new folders, too.
    assert ["synced", "."] in calls["file"]
    assert ["synced", "store/one"] in calls["file"]
    assert ["synced", "store"] in calls["stream"]
    for part in ("store/four/deep/model.bin", "store/four/deep", "store/four", "store"):
        assert ["synced", part] in calls["folder"]
