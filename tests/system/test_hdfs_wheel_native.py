"""The wheel on clients of each Python: installed, or where there is none here, resolved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlflow_image.inputs import plugin
from tests.peers import hdfs_client
from tests.peers.environments import interpreter, uv
from tests.peers.hdfs_client import digest
from tests.system import hdfs_rig
from tests.system.hdfs_rig import Rig

pytestmark = pytest.mark.full

#: Python -> MLflow: the oldest that the plugin takes, and the newest elsewhere.
CLIENTS = {
    "3.9": "mlflow-skinny==2.22.*",
    **dict.fromkeys(("3.10", "3.11", "3.12", "3.13"), "mlflow-skinny>=3"),
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with hdfs_rig.running(tmp_path_factory.mktemp("rig")) as made:
        yield made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugin.build(tmp_path_factory.mktemp("wheel"))


@pytest.mark.budget(200)
@pytest.mark.parametrize("version", CLIENTS)
@pytest.mark.verifies("HDFS: the wheel serves clients of Python 3.9 to 3.13")
def test_a_client_logs_and_reads_with_the_wheel(
    rig: Rig,
    wheel: Path,
    version: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    asked = (str(wheel), CLIENTS[version])
    python = interpreter(version)
    if not python:
        (tmp_path / "in").write_text("\n".join(asked))
        uv("pip", "compile", "--quiet", "--python-version", version, tmp_path / "in")
        record_property("figure", f"{version} resolved only")
        return
    place = tmp_path / "environment"
    uv("venv", "--quiet", "--no-project", "--python", python, place)
    uv("pip", "install", "--quiet", "--python", place / "bin" / "python", *asked)
    file = tmp_path / "model.bin"
    file.write_bytes(os.urandom(300_000))
    variables = {**rig.variables(version), "MLFLOW_KERBEROS_USER": ""}  # 3.9 cannot choose one
    log = tmp_path / "log"
    with hdfs_client.running(place / "bin" / "python", rig.url, variables, log) as client:
        client("log", str(file), version)
        back = client("download", f"{version}/model.bin", str(tmp_path / "back"))
        assert digest(back) == digest(file)
        assert client("list", version) == [[f"{version}/model.bin", False, 300_000]]
    record_property("figure", f"{version} ran")
