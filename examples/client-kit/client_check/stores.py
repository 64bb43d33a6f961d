"""Whether this machine reaches the artifacts: through the server, by presigned URL, or directly."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from client_check import network, tls, web, write
from client_check.environment import Kit
from client_check.report import Fault
from client_check.server import Server
from client_check.work import FILE
from client_check.write import brief

_S3_CA = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_URL_CA = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
_ADMIN = "ask the server's operator"
_PLUGIN = "mlflow-hdfs"
#: With `false`, clients read artifacts through the server, whatever it offers.
BY_URL = "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"
_INSTEAD = f"or export {BY_URL}=false: files then go through the server"


def reach(kit: Kit) -> str:
    """Whether the store answers, where clients use it themselves; needs no mlflow."""
    way = kit.artifacts.get("way", "")
    if way == "hdfs":
        _plugin(kit)
        return _reach_hdfs(kit)
    endpoint = os.environ.get(_ENDPOINT) or str(kit.artifacts.get("endpoint", ""))
    variable, names = (_ENDPOINT, _S3_CA) if way == "s3" else ("the server's settings", _URL_CA)
    if not endpoint:
        return "AWS: nothing to ask before a key is used"
    if not urlsplit(endpoint).hostname or urlsplit(endpoint).scheme not in ("http", "https"):
        raise Fault(f"{variable} is {endpoint}, which is not a URL", "correct it in .env")
    goal = network.target(endpoint, variable)
    try:
        network.resolve(goal)
        network.connect(goal).close()
        said = tls.check(goal, names) if goal.scheme == "https" else "no TLS"
    except Fault as fault:
        remedy = f"{fault.remedy}; {_INSTEAD}" if way == "presigned" else fault.remedy
        raise Fault(f"the artifact store: {fault.what}", remedy) from fault
    return f"{goal.netloc} answers; {said}"


def _reach_hdfs(kit: Kit) -> str:
    folder = os.environ.get("HADOOP_CONF_DIR", "")
    for name in ("core-site.xml", "hdfs-site.xml"):
        if not Path(folder, name).is_file():
            raise Fault(f"HADOOP_CONF_DIR has no {name}", "set it to the kit's folder hadoop-conf")
    faults = []
    for place in kit.artifacts.get("namenodes", ()):
        goal = network.target(f"http://{place}", "core-site.xml or hdfs-site.xml")
        goal = network.Target(goal.scheme, goal.host, goal.port, "", "", goal.variable)
        try:
            network.resolve(goal)
            network.connect(goal).close()
        except Fault as fault:
            faults.append(fault)
    if faults and len(faults) == len(kit.artifacts.get("namenodes", ())):
        raise Fault(f"HDFS: {faults[0].what}", faults[0].remedy)
    return f"HDFS answers: {', '.join(kit.artifacts.get('namenodes', ()))}"


def _plugin(kit: Kit) -> None:
    """Raise Fault if the plugin for HDFS is not installed."""
    try:
        metadata.version(_PLUGIN)
    except metadata.PackageNotFoundError as error:
        wheel = kit.artifacts.get("wheel", "its wheel")
        raise Fault(
            "the plugin for HDFS is not installed", f"python -m pip install ./{wheel}"
        ) from error


def check(said: Mapping[str, Any], server: Server, kit: Kit) -> str:
    """The result for the file. said: by write.work()."""
    uri = str(said["write"].get("artifact_uri", ""))
    error = str(said["artifacts"].get("error", ""))
    scheme = urlsplit(uri).scheme
    presigned = bool(said["artifacts"].get("presigned"))
    if presigned and not error:
        _presigned(uri, server)  # mlflow itself tries for a minute, and does not say why
        error = str(write.work(kit.folder, "read", uri).get("error", ""))
    if not error:
        ways = {"mlflow-artifacts": "through the server", "s3": "in S3, with your own key"}
        way = "by presigned URL" if presigned else ways.get(scheme, f"in {scheme}, directly")
        return f"a file was written and read, {way}"
    if scheme == "s3":
        raise _of_s3(error, urlsplit(uri).netloc)
    if scheme in ("hdfs", "viewfs"):
        cause, _, remedy = brief_of_plugin(error).partition(" What to do: ")
        raise Fault(cause, remedy or f"check your rights in HDFS; {_ADMIN}")
    if scheme in ("", "file"):
        raise Fault(
            f"the server stores artifacts in {uri}, a folder that only its own machine has",
            f"{_ADMIN} to serve artifacts (`mlflow server --serve-artifacts`)",
        )
    if re.search(r"\b403\b|PERMISSION_DENIED", error):
        raise Fault("this account may not write artifacts (status 403)", f"{_ADMIN} for EDIT")
    raise Fault(
        f"the server cannot use its artifact store: {brief(error)}",
        f"{_ADMIN}: `sudo journalctl -u mlflow-tracking` names the cause",
    )


def brief_of_plugin(error: str) -> str:
    """The plugin's own sentence, with its cause and its remedy."""
    first = next((line for line in error.splitlines() if "What to do:" in line), "")
    return first.split(": ", 1)[-1] if first else brief(error)


def _presigned(uri: str, server: Server) -> None:
    """Read the file as clients of MLflow 3 do; raise Fault with the reason if that fails."""
    path = f"/api/2.0/mlflow-artifacts/presigned/{urlsplit(uri).path.strip('/')}/{FILE}"
    said = server.ask(path, signed_in=True)
    url = said.document.get("url", "") if isinstance(said.document, dict) else ""
    if said.status != 200 or not url:
        raise Fault(
            f"the server gives no presigned URL (status {said.status}: {said.excerpt})", _ADMIN
        )
    goal = network.target(url.partition("?")[0], "artifact_store.s3.endpoint_url of the server")
    try:
        if goal.scheme == "https":
            tls.check(goal, _URL_CA)
        trust = tls.context(_URL_CA) if goal.scheme == "https" else None
        parts = urlsplit(url)
        headers = {
            str(name): str(value) for name, value in said.document.get("headers", {}).items()
        }
        found = web.ask(goal, f"{parts.path}?{parts.query}", trust, headers)
    except Fault as fault:
        raise Fault(f"by presigned URL: {fault.what}", f"{fault.remedy}; {_INSTEAD}") from fault
    if found.status not in (200, 206):
        raise Fault(
            f"the store answers status {found.status} to a presigned URL: {_code(found.text)}",
            f"{_ADMIN}; {_INSTEAD}",
        )


def _code(xml: str) -> str:
    found = re.search(r"<Code>([^<]+)", xml)
    return found[1] if found else " ".join(xml.split())[:80]


#: A part of what boto3 says -> what is wrong, and what to do.
_OF_S3 = (
    ("SignatureDoesNotMatch", "the secret key is wrong", "correct AWS_SECRET_ACCESS_KEY in .env"),
    (
        r"InvalidAccessKey|UserNotFound",
        "the store does not know the access key",
        "correct AWS_ACCESS_KEY_ID in .env",
    ),
    ("NoCredentialsError|Unable to locate cred", "no key is set", "set AWS_ACCESS_KEY_ID in .env"),
    ("NoSuchBucket", "there is no such bucket", f"{_ADMIN}: the bucket of the settings is gone"),
    (
        "RequestTimeTooSkewed|RequestTimeSkewed",
        "this machine's clock is wrong",
        "timedatectl set-ntp true",
    ),
    (
        "ExpiredToken|TokenRefreshRequired",
        "the key has expired",
        "get a new key, and write it in .env",
    ),
    (r"AccessDenied|\(403\)", "the key may not write there", f"{_ADMIN} for a key that may"),
    (
        "No module named 'boto",
        "boto3 is not installed",
        "python -m pip install -r requirements.txt",
    ),
    (
        "SSLError|CERTIFICATE_VERIFY_FAILED",
        "the certificate is not signed by a known CA",
        "set AWS_CA_BUNDLE to the kit's CA certificate",
    ),
)


def _of_s3(error: str, bucket: str) -> Fault:
    place = f"S3, bucket {bucket}"
    for pattern, what, remedy in _OF_S3:
        if re.search(pattern, error):
            return Fault(f"{place}: {what}", remedy)
    code = re.search(r"An error occurred \((\w+)\)", error)
    said = f"the store answers {code[1]}" if code else brief(error)
    return Fault(f"{place}: {said}", f"correct the store's variables in .env, or {_ADMIN}")
