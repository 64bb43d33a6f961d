"""Print what the pods of this project need, from the lines of `invoke client-env`.

    python client_secret.py ../client.env | kubectl apply --server-side -f -

A Secret (or with --configmap a ConfigMap, which is not for secrets) with the variables, and a
ConfigMap with the CA certificates. Values are in no command line.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

NAME, CA_NAME, CA_FILE = "mlflow-client", "mlflow-ca", "mlflow-ca.pem"
#: Where kubernetes_job_template.yaml mounts the CA certificates.
CA_IN_POD = f"/etc/mlflow/{CA_FILE}"
#: Variables whose value is the file of the CA certificates.
CA_VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
ACCOUNT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
KEY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
#: What `invoke client-env` prints in place of what it does not know or show.
PLACEHOLDERS = ("YOUR_NAME", "YOUR_PASSWORD", "YOUR_OWN_KEY", "SERVER_ADDRESS")
MAKE = "make it with `invoke client-env --format dotenv --with-secrets --ca FILE`"


class InputError(Exception):
    """One line for the user: what, where, what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="the output of `invoke client-env`")
    parser.add_argument("--namespace", default="mlflow")
    parser.add_argument("--configmap", action="store_true", help="a ConfigMap instead of a Secret")
    given = parser.parse_args()
    try:
        shown = manifests(given.file, given.namespace, configmap=given.configmap)
    except InputError as fault:
        raise SystemExit(f"client_secret.py: {fault}") from None
    json.dump(shown, sys.stdout, indent=2)


def manifests(file: Path, namespace: str, *, configmap: bool) -> dict[str, object]:
    """The objects that the job template names, as one list. Raises InputError."""
    variables = read(file)
    check(variables, file)
    certificates: dict[str, str] = {}  # by the file on this machine, mostly one
    for name in CA_VARIABLES:
        if name in variables:
            path = variables[name]
            certificates[path] = certificates_of(Path(path), name, file)
            variables[name] = CA_IN_POD
    kind, data = "ConfigMap", variables
    if not configmap:
        kind = "Secret"
        data = {k: base64.b64encode(v.encode()).decode() for k, v in variables.items()}
    items = [manifest(kind, NAME, namespace, data)]
    if certificates:
        items.append(
            manifest("ConfigMap", CA_NAME, namespace, {CA_FILE: "".join(certificates.values())})
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


def manifest(kind: str, name: str, namespace: str, data: Mapping[str, str]) -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": dict(data)}


def read(file: Path) -> dict[str, str]:
    """The variables of a dotenv file: a line each, no quotes."""
    project = Path(__file__).resolve().parent
    if project in file.resolve().parents:
        raise InputError(
            f"{file} is in the project's folder, which `mlflow run` copies into the image: "
            "move it out of there"
        )
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"cannot read {file} ({fault}): {MAKE}") from None
    pairs = (line.partition("=") for line in lines if line.strip() and line[0] != "#")
    return {name.strip(): value for name, _, value in pairs}


def check(variables: Mapping[str, str], file: Path) -> None:
    """Raise InputError for what is missing or is still a placeholder."""
    uri = urlsplit(variables.get("MLFLOW_TRACKING_URI", ""))
    if uri.scheme not in ("http", "https"):
        raise InputError(f"MLFLOW_TRACKING_URI in {file} is missing or no address: {MAKE}")
    if uri.password:
        raise InputError(f"MLFLOW_TRACKING_URI in {file} holds a password: use {ACCOUNT[1]}")
    for pair in (ACCOUNT, KEY):
        missing = [name for name in pair if not variables.get(name)]
        if len(missing) == 1:
            raise InputError(f"{missing[0]} is missing in {file}: add it, or {MAKE}")
    for name, value in variables.items():
        for one in PLACEHOLDERS:
            if one in value:
                raise InputError(f"{name} in {file} is still {one}: replace it")


def certificates_of(path: Path, name: str, file: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise InputError(f"{name} in {file} names {path}, which is no CA certificate: {MAKE}")
    return f"{text.strip()}\n"


if __name__ == "__main__":
    main()
