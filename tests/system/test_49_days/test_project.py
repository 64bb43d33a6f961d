"""examples/project/: on this host, and as Jobs of a Kubernetes cluster of one node.

The commands are those of its page and of docs/tutorials/003.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.inputs import wheels
from mlflow_image.paths import HERE
from mlflow_image.server.local import environment, own_environment
from tests.peers import arguments, docker_engine, environments, kubernetes, s3
from tests.peers.docker_engine import Docker
from tests.peers.kubernetes import Cluster
from tests.peers.tutorials import Page, Tutorial
from tests.standins import python_image

from .conftest import PASSWORD, Day, row

pytestmark = pytest.mark.full

EXAMPLE = HERE.root / "examples" / "project"
LOCKS = HERE.locks / "examples"
LOCAL = row("on the laptop")
REMOTE = row("as a Job of Kubernetes")
#: Prints the keys in a bucket that begin so.
LISTED = """
import boto3, os, sys
bucket, prefix = sys.argv[1:]
client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
for one in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
    print(one["Key"])
"""
#: What tests use of the server, as the example's user; prints JSON.
LAST_RUN = """
import json, sys
import mlflow
experiment = mlflow.get_experiment_by_name(sys.argv[1])
(run,) = mlflow.search_runs([experiment.experiment_id], output_format="list", max_results=1)
found = {"id": run.info.run_id, "status": run.info.status, "params": run.data.params}
found |= {"metrics": run.data.metrics, "tags": run.data.tags, "signature": "", "predicts": 0}
for model in run.outputs.model_outputs if run.outputs else ():
    uri = f"models:/{model.model_id}"
    found["place"] = mlflow.get_logged_model(model.model_id).artifact_location
    found["signature"] = str(mlflow.models.get_model_info(uri).signature)
print(json.dumps(found))
"""


#: The commands of the example.
PAGE = Page(EXAMPLE / "README.md")


@dataclass(frozen=True)
class Laptop:
    """A copy of the example next to client.env, and the shell in which commands are typed."""

    folder: Path
    environment: Path
    programs: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def type(
        self, *lines: str, with_server: bool = True, timeout_s: float = 600, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Type these lines in the project's folder, after the page's line that sets variables."""
        first = [PAGE.command("while ")] if with_server else []
        path = [self.environment / "bin", *([self.programs] if self.programs else [])]
        variables = {
            **own_environment(),
            **wheels.uv_environment(),
            "UV_CONSTRAINT": str(self.folder / "constraints.txt"),
            "MLFLOW_ENV_ROOT": str(self.folder / "environments"),
            "PATH": ":".join([*map(str, path), os.environ["PATH"]]),
            **self.variables,
            **more,
        }
        return subprocess.run(
            ["bash", "-c", "\n".join([*first, *lines])],
            cwd=self.project,
            env=variables,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def done(self, *lines: str, **more: Any) -> str:
        shown = self.type(*lines, **more)
        assert shown.returncode == 0, shown.stdout[-3000:] + shown.stderr[-5000:]
        return shown.stdout + shown.stderr

    def last_run(self, experiment: str = "project") -> Any:
        shown = self.type(f"python - {experiment} <<'END'\n{LAST_RUN}\nEND")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def laptop(day: Day, tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    folder = tmp_path_factory.mktemp("laptop")
    shutil.copytree(EXAMPLE, folder / "project")
    assert "--format dotenv --with-secrets" in PAGE.command("umask 077; scripts/invoke client-env")
    (folder / "client.env").write_text(day.client_env())
    (folder / "constraints.txt").write_text(constraints())
    assert "requirements.txt" in PAGE.command("pip install")
    return Laptop(folder, environments.of_lock(LOCKS / "project.txt"))


def constraints() -> str:
    """The versions in the lock file of what train.py needs."""
    text = (LOCKS / "project-run.txt").read_text()
    return "".join(
        f"{found[1]}\n" for found in re.finditer(r"^([\w.-]+==[^\\\n]+?) *\\?$", text, re.MULTILINE)
    )


@dataclass(frozen=True)
class There:
    """The laptop with Docker and kubectl, the cluster, and what both have shown so far."""

    laptop: Laptop
    docker: Docker
    cluster: Cluster
    shown: list[str] = field(default_factory=list)

    def run(self, template: str = "", **changed: str) -> subprocess.CompletedProcess[str]:
        """The page's `mlflow run` on Kubernetes. changed: what replaces parts of it."""
        line = PAGE.command("mlflow run . ", f"kubernetes_config{template}.json")
        for before, after in changed.items():
            assert before in line
            line = line.replace(before, after)
        done = self.laptop.type(line)
        self.shown.append(done.stdout + done.stderr + self.logs())
        return done

    def logs(self) -> str:
        """What the last Job's pod has printed."""
        jobs = self.cluster.get("jobs", "-n", "mlflow")["items"]
        name = max(one["metadata"]["name"] for one in jobs)
        return self.cluster.kubectl("logs", "-n", "mlflow", f"job/{name}")

    def client_objects(self, *, configmap: bool = False, check: bool = True) -> str:
        line = PAGE.command(
            "python client_secret.py", "--configmap" if configmap else "client.env |"
        )
        return self.laptop.done(f"set -o pipefail; {line}")


@pytest.fixture(scope="module")
def there(laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    """A cluster, and the page's commands before the Secret."""
    if lacks := docker_engine.lacks() or kubernetes.lacks() or python_image.lacks():
        pytest.skip(lacks)
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        for large in ("docker", "registry", "kubernetes/containerd"):
            stack.callback(shutil.rmtree, folder / large, ignore_errors=True)
        docker = stack.enter_context(docker_engine.running(folder))
        python = python_image.build(docker, constraints())
        pause = f"{docker.registry}/pause:1"
        docker("build", "--tag", pause, "-", text=f'FROM {python}\nCMD ["sleep", "infinity"]\n')
        docker("push", pause)
        (folder / "kubernetes").mkdir()
        cluster = stack.enter_context(
            kubernetes.running(folder / "kubernetes", docker.registry, pause)
        )
        variables = {**docker.variables, "KUBECONFIG": str(cluster.kubeconfig)}
        with_docker = Laptop(laptop.folder, laptop.environment, cluster.programs, variables)
        for file in laptop.project.glob("kubernetes_config*.json"):
            file.write_text(file.read_text().replace("REGISTRY_ADDRESS", docker.registry))
        for file in laptop.project.glob("kubernetes_job_template*.yaml"):
            before = "      restartPolicy:"
            assert before in file.read_text()
            file.write_text(file.read_text().replace(before, f"      hostNetwork: true\n{before}"))
        build = PAGE.command("docker build ")
        own = f"docker build --network host --build-arg PYTHON_IMAGE={python} "
        with_docker.done(build.replace("docker build ", own))
        with_docker.done(PAGE.command("kubectl create namespace"))
        yield There(with_docker, docker, cluster)


def is_trained(run: Any) -> None:
    assert run["status"] == "FINISHED"
    assert (run["params"]["C"], run["params"]["penalty"]) == ("0.5", "l2")
    assert run["metrics"]["accuracy"] > 0.9
    assert "mean radius" in run["signature"]


@pytest.mark.budget(240)
@pytest.mark.verifies(LOCAL)
def test_a_run_on_the_laptop(
    laptop: Laptop, record_property: Callable[[str, object], None]
) -> None:
    begun_s = time.monotonic()
    shown = laptop.done(PAGE.command("mlflow run local "))
    record_property("figure", f"{time.monotonic() - begun_s:.0f} s with a new environment")
    assert "Creating a new environment" in shown
    assert "succeeded" in shown
    assert PASSWORD not in shown
    is_trained(laptop.last_run())


#: Case -> lines that are typed first, and what train.py then says.
MISSING = {
    "address": ("unset MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI is no server's address"),
    "password": (
        "unset MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_PASSWORD is not set, but its counterpart is",
    ),
    "account": (
        "unset MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are not set",
    ),
    "wrong password": (
        "export MLFLOW_TRACKING_PASSWORD=wrong",
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are wrong",
    ),
    "CA": (
        "export MLFLOW_TRACKING_SERVER_CERT_PATH=/nowhere/ca.pem",
        "MLFLOW_TRACKING_SERVER_CERT_PATH names /nowhere/ca.pem, which is not there",
    ),
}


@pytest.mark.parametrize("case", MISSING)
@pytest.mark.budget(60)
def test_what_is_missing_is_said_in_one_line(laptop: Laptop, case: str) -> None:
    first, wanted = MISSING[case]
    python = next((laptop.folder / "environments").rglob("bin/python"))
    done = laptop.type(first, f"{python} train.py")
    lines = [line for line in done.stderr.splitlines() if line.startswith("train.py: ")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert wanted in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.budget(120)
@pytest.mark.verifies(LOCAL)
def test_a_bad_parameter_fails_the_command_and_the_run(laptop: Laptop) -> None:
    done = laptop.type(PAGE.command("mlflow run local ").replace("penalty=l2", "penalty=l3"))
    assert done.returncode != 0
    assert "train.py: penalty is 'l3', but must be l1 or l2" in done.stderr
    assert "Traceback" not in done.stderr
    assert laptop.last_run()["status"] == "FAILED"


@pytest.mark.budget(420)
@pytest.mark.verifies(REMOTE)
def test_without_its_secret_the_job_fails_and_says_so(there: There) -> None:
    assert there.run().returncode != 0
    lines = there.logs().splitlines()
    assert [line for line in lines if "train.py: the server's CA is not known: set MLFLOW_" in line]
    assert "Traceback" not in "\n".join(lines)


@pytest.mark.budget(240)
@pytest.mark.verifies(REMOTE)
def test_a_run_on_the_cluster(there: There, record_property: Callable[[str, object], None]) -> None:
    with arguments.watched() as seen:
        assert PASSWORD not in there.client_objects()
        begun_s = time.monotonic()
        done = there.run()
        record_property("figure", f"{time.monotonic() - begun_s:.0f} s from command to end")
    assert done.returncode == 0, done.stderr[-5000:]
    assert [line for line in seen if PASSWORD in line] == []
    run = there.laptop.last_run()
    is_trained(run)
    assert run["tags"]["mlflow.project.backend"] == "kubernetes"
    assert "accuracy 0.9" in there.logs()
    (image,) = {
        pod["spec"]["containers"][0]["image"]
        for pod in there.cluster.get("pods", "-n", "mlflow")["items"]
        if pod["status"]["phase"] == "Succeeded"
    }
    assert image.startswith(f"{there.docker.registry}/mlflow-project:latest@sha256:")


@pytest.mark.budget(240)
@pytest.mark.verifies(REMOTE)
def test_a_failing_job_fails_the_command_and_the_run(there: There) -> None:
    done = there.run(**{"penalty=l2": "penalty=l3"})
    assert done.returncode != 0
    assert "failed" in done.stderr
    assert there.laptop.last_run()["status"] == "FAILED"
    assert "penalty is 'l3', but must be l1 or l2" in there.logs()


@pytest.mark.budget(60)
@pytest.mark.verifies(REMOTE)
def test_the_secret_is_closed_to_viewers_and_encrypted(there: There) -> None:
    assert PASSWORD.encode() not in there.cluster.database
    assert not may_read(there, "secrets")


def may_read(there: There, what: str) -> bool:
    """Whether a person with the role `view` may read these objects."""
    kubectl = there.cluster.kubectl
    if "looks-around" not in kubectl("get", "rolebindings", "-n", "mlflow"):
        words = ("create", "rolebinding", "looks-around", "--clusterrole=view", "--user=viewer")
        kubectl(*words, "-n", "mlflow")
    shown = kubectl("get", what, "mlflow-client", "-n", "mlflow", "--as=viewer", check=False)
    return "Forbidden" not in shown


@pytest.mark.budget(240)
@pytest.mark.verifies("003: the same with a ConfigMap, and why not")
def test_a_config_map_works_and_shows_the_password(there: There) -> None:
    there.cluster.kubectl("delete", "secret", "mlflow-client", "-n", "mlflow")
    there.client_objects(configmap=True)
    done = there.run("_configmap")
    assert done.returncode == 0, done.stderr[-5000:]
    is_trained(there.laptop.last_run())
    assert may_read(there, "configmaps")
    assert PASSWORD.encode() in there.cluster.database


@pytest.mark.budget(240)
@pytest.mark.verifies("003: a Job that writes to S3 itself, with keys from the Secret")
def test_a_job_uses_the_store_s_keys_from_the_secret(there: There, day: Day) -> None:
    store, file = day.stores.store, there.laptop.folder / "client.env"
    store_ca = there.laptop.folder / "store-ca.pem"
    store_ca.write_text(store.ca)
    keys = {
        "MLFLOW_S3_ENDPOINT_URL": f"https://localhost:{store.port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
        "AWS_CA_BUNDLE": str(store_ca),
    }
    before = file.read_text()
    file.write_text(before + "".join(f"{name}={value}\n" for name, value in keys.items()))
    try:
        place = f"s3://{s3.BUCKET}/artifacts/direct"  # below the prefix of the settings
        there.laptop.done(f"mlflow experiments create -n direct -l {place}")
        there.client_objects()
        done = there.run(**{"--experiment-name project": "--experiment-name direct"})
        assert done.returncode == 0, done.stderr[-5000:]
    finally:
        file.write_text(before)
    listed = subprocess.run(
        [environment() / "bin" / "python", "-c", LISTED, s3.BUCKET, "artifacts/direct/"],
        env={**own_environment(), **{key.replace("MLFLOW_S3_", "AWS_"): keys[key] for key in keys}},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "/MLmodel" in listed, "the Job has written its model itself"
    assert not any(s3.SECRET_KEY in text for text in there.shown)


@pytest.mark.budget(60)
@pytest.mark.verifies(REMOTE)
def test_the_password_is_in_no_image_manifest_or_log(there: There) -> None:
    assert in_layers(there.docker, b"load_breast_cancer"), "layers are searched"
    assert not in_layers(there.docker, PASSWORD.encode())
    for kind in ("jobs", "pods", "events"):
        assert PASSWORD not in there.cluster.kubectl("get", kind, "-n", "mlflow", "-o", "yaml")
    assert there.shown
    assert not any(PASSWORD in text for text in there.shown)
    logs = list(there.docker.folder.rglob("*.log"))
    assert {"docker.log", "kube-apiserver.log", "node.log"} <= {file.name for file in logs}
    assert [file for file in logs if PASSWORD.encode() in file.read_bytes()] == []


def in_layers(docker: Docker, word: bytes) -> list[str]:
    """The files with a word in what was pushed."""
    found = []
    for blob in docker.blobs():
        with tarfile.open(blob) as layer:
            for member in layer:
                file = layer.extractfile(member) if member.isfile() else None
                if file and member.size < 5_000_000 and word in file.read():
                    found.append(member.name)
    return found


#: Case -> what is typed, and what client_secret.py then says.
REFUSED = {
    "no file": ("python client_secret.py ../nothing.env", "cannot read ../nothing.env"),
    "in the project": (
        "cp ../client.env here.env; python client_secret.py here.env; e=$?; rm here.env; exit $e",
        "which `mlflow run` copies into the image: move it out of there",
    ),
    "no password": (
        "grep -v PASSWORD= ../client.env > ../some.env; python client_secret.py ../some.env",
        "MLFLOW_TRACKING_PASSWORD is missing in ../some.env",
    ),
    "placeholder": (
        "echo MLFLOW_TRACKING_URI=https://SERVER_ADDRESS > ../some.env;"
        "python client_secret.py ../some.env",
        "MLFLOW_TRACKING_URI in ../some.env is still SERVER_ADDRESS",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.budget(10)
def test_the_helper_refuses_in_one_line(laptop: Laptop, case: str) -> None:
    line, wanted = REFUSED[case]
    done = laptop.type(line, with_server=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert wanted in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.budget(60)
def test_the_pages_show_the_same_commands(day: Day, tmp_path: Path) -> None:
    tutorial = Tutorial("003")
    file = tmp_path / "settings.yaml"
    done = day.tasks(*tutorial.words("new", {"settings.yaml": str(file)}))
    assert done.returncode == 0, done.stderr
    text = re.sub(r'"(DATABASE|BUCKET|STORE|ACCESS|SECRET)_[A-Z_]+"', '"other"', file.read_text())
    file.write_text(text)
    given = {"settings.yaml": str(file), "user-data": str(tmp_path / "user-data")}
    done = day.tasks(*tutorial.words("user-data", given))
    assert done.returncode == 0, done.stderr
    # The server of these tests was started by it, with a name and a port of its own.
    assert tutorial.words("up") == ["up", "--user-data", "user-data"]
    assert set(tutorial.left) <= set(PAGE.commands)
    assert PAGE.left == [], "each command of the page has run"
