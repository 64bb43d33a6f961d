"""examples/project/: its lists agree, and what client_secret.py makes of a client's variables."""

from __future__ import annotations

import base64
import importlib.util
import json
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from mlflow_image.paths import HERE
from mlflow_image.server import client_env
from mlflow_settings import settings
from tests.peers.authority import Authority

EXAMPLE = HERE.root / "examples" / "project"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
#: A server whose clients use the store themselves.
DIRECT = """
schema_version: 1
artifact_store:
  s3:
    bucket: runs
    region: us-east-1
    endpoint_url: https://s3.example.com
    access_key_id: key
    secret_access_key: "secret=with#signs$and`more"
    access: direct
    ca_certificate: |
CERTIFICATE
auth:
  basic:
    admin: {name: admin, password: "password of twelve"}
"""


@pytest.fixture
def helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("client_secret", EXAMPLE / "client_secret.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_laptop_and_the_image_get_the_same_packages() -> None:
    lines = (EXAMPLE / "requirements-run.txt").read_text().splitlines()
    local = yaml.safe_load((EXAMPLE / "local" / "python_env.yaml").read_text())
    assert local["dependencies"] == [line for line in lines if not line.startswith("#")]


def test_both_definitions_take_the_same_parameters() -> None:
    remote, local = (
        yaml.safe_load((EXAMPLE / folder / "MLproject").read_text())["entry_points"]["main"]
        for folder in (".", "local")
    )
    assert remote["parameters"] == local["parameters"]
    assert remote["command"] == local["command"].replace("../", "")
    assert not set("\"'") & set(remote["command"]), "mlflow splits it without a shell"


def test_the_two_job_templates_differ_in_one_line() -> None:
    secret, configmap = (
        (EXAMPLE / f"kubernetes_job_template{name}.yaml").read_text().splitlines()
        for name in ("", "_configmap")
    )
    pairs = [(a, b) for a, b in zip(secret, configmap, strict=True) if a != b]
    assert len(pairs) == 1
    assert "secretRef" in pairs[0][0]
    assert "configMapRef" in pairs[0][1]


def test_the_examples_by_hand_name_what_the_helper_makes(
    helper: ModuleType, tmp_path: Path
) -> None:
    for name, key in (("secret", "stringData"), ("configmap", "data")):
        shown = yaml.safe_load((EXAMPLE / f"{name}.yaml").read_text())
        file = write(tmp_path, shown[key] | {"MLFLOW_TRACKING_SERVER_CERT_PATH": ca(tmp_path)})
        file.write_text(file.read_text().replace("YOUR_", "").replace("SERVER_ADDRESS", "host"))
        made = helper.manifests(file, "mlflow", configmap=name == "configmap")["items"][0]
        assert made["kind"] == shown["kind"]
        assert made["metadata"] == shown["metadata"]
        assert set(made["data"]) == set(shown[key])


@pytest.mark.parametrize("configmap", [False, True])
def test_keys_of_a_server_with_direct_access_arrive_as_they_are(
    helper: ModuleType, tmp_path: Path, configmap: bool
) -> None:
    pem = Authority(tmp_path / "authority").certificate.read_text()
    text = DIRECT.replace("CERTIFICATE\n", textwrap.indent(pem, "      "))
    found = client_env.variables(
        "https://host", settings.check(text, "x"), ca(tmp_path), with_secrets=True
    )
    file = tmp_path / "client.env"
    file.write_text(client_env.dotenv(found))
    variables, certificates = helper.manifests(file, "team", configmap=configmap)["items"]
    data = variables["data"]
    if not configmap:
        data = {name: base64.b64decode(value).decode() for name, value in data.items()}
    wanted = {one.name: one.value for one in found}
    assert wanted["AWS_SECRET_ACCESS_KEY"] == "secret=with#signs$and`more"
    assert data == wanted | {"AWS_CA_BUNDLE": "/etc/mlflow/mlflow-ca.pem"}
    assert certificates["data"] == {"mlflow-ca.pem": CERTIFICATE}
    assert {variables["metadata"]["namespace"], certificates["metadata"]["namespace"]} == {"team"}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"MLFLOW_TRACKING_URI": ""}, "MLFLOW_TRACKING_URI in FILE is missing or no address"),
        ({"MLFLOW_TRACKING_URI": "https://a:b@host"}, "MLFLOW_TRACKING_URI in FILE holds a pass"),
        ({"MLFLOW_TRACKING_USERNAME": ""}, "MLFLOW_TRACKING_USERNAME is missing in FILE"),
        ({"MLFLOW_TRACKING_PASSWORD": "YOUR_PASSWORD"}, "MLFLOW_TRACKING_PASSWORD in FILE is sti"),
        ({"AWS_ACCESS_KEY_ID": "key"}, "AWS_SECRET_ACCESS_KEY is missing in FILE"),
        ({"AWS_CA_BUNDLE": "/nowhere"}, "AWS_CA_BUNDLE in FILE names /nowhere, which is no CA"),
    ],
)
def test_what_is_missing_is_one_line(
    helper: ModuleType, tmp_path: Path, changed: dict[str, str], wanted: str
) -> None:
    good = {
        "MLFLOW_TRACKING_URI": "https://host",
        "MLFLOW_TRACKING_USERNAME": "ana",
        "MLFLOW_TRACKING_PASSWORD": "canary-of-a-helper",
    }
    file = write(tmp_path, good | changed)
    with pytest.raises(helper.InputError) as caught:
        helper.manifests(file, "mlflow", configmap=False)
    message = str(caught.value).replace(str(file), "FILE")
    assert message.startswith(wanted)
    assert "\n" not in message
    assert "canary-of-a-helper" not in message


def test_the_output_is_for_kubectl(
    helper: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write(tmp_path, {"MLFLOW_TRACKING_URI": "https://host"})
    monkeypatch.setattr("sys.argv", ["client_secret.py", str(file)])
    helper.main()
    assert json.loads(capsys.readouterr().out)["kind"] == "List"


def ca(folder: Path) -> str:
    (folder / "ca.pem").write_text(CERTIFICATE)
    return str(folder / "ca.pem")


def write(folder: Path, variables: dict[str, str]) -> Path:
    file = folder / "some.env"
    lines = [f"{name}={value}" for name, value in variables.items()]
    file.write_text("\n".join(["# a reason", *lines, ""]))
    return file
