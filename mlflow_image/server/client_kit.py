"""The zip for people who log to a server: what they set, what they install, and a check of both.

The same inputs give the same bytes: entries are sorted, have a fixed time, and are not compressed.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.images.find import CLIENTS_NAME, Image
from mlflow_image.paths import HERE
from mlflow_image.server import certificates, client_env
from mlflow_image.server.client_env import Variable
from mlflow_settings.blocks import hdfs
from mlflow_settings.blocks.hdfs import Hdfs
from mlflow_settings.settings import Settings

#: The folder that the zip unpacks to.
FOLDER = "mlflow-client-kit"
DESCRIPTION = "kit.json"
HADOOP = "hadoop-conf"
#: What every kit has as it is in the checkout.
SOURCES = HERE.root / "examples" / "client-kit"
FIRST_RUN = HERE.root / "examples" / "first_run.py"
#: Of MLflow 3.
_OLDEST_PYTHON = "3.10"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
#: Clients may have these in files of their own, or need none.
_OPTIONAL = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
)


@dataclass(frozen=True)
class Kit:
    """What a kit is made of. url: as clients see the server. ca: of its certificate, PEM, or "".

    settings: of the server, if they are known. image: that the server runs, if it is known.
    """

    url: str
    settings: Settings | None
    ca: str
    image: Image | None
    with_secrets: bool = False

    @property
    def variables(self) -> list[Variable]:
        """What .env sets; paths are relative to it."""
        found = client_env.variables(
            self.url,
            self.settings,
            certificates.CA_FILE,
            HADOOP,
            with_secrets=self.with_secrets,
        )
        names = {one.name for one in found}
        variable = "MLFLOW_TRACKING_SERVER_CERT_PATH"
        is_public = self.settings is not None and self.settings.tls.acme is not None
        is_private = self.ca and self.url.startswith("https://") and not is_public
        if is_private and variable not in names:
            reason = "the CA of the server's certificate"
            found.insert(1, Variable(variable, certificates.CA_FILE, reason))
        return found

    @property
    def cluster(self) -> Hdfs | None:
        """The HDFS that clients use themselves, if they do."""
        return client_env.direct_hdfs(self.settings)

    @property
    def wheel(self) -> Path | None:
        """The plugin for HDFS, if clients need it and the image is here."""
        if not self.cluster or not self.image:
            return None
        return next(iter(sorted((self.image.directory / CLIENTS_NAME).glob("*.whl"))), None)

    @property
    def mlflow(self) -> str:
        """The image's MLflow; without an image, the one that the next build has."""
        if self.image and (known := self.image.manifest):
            return known.mlflow
        found = re.search(r"^mlflow==(\S+)", (HERE.locks / "image.in").read_text(), re.MULTILINE)
        assert found, "locks/image.in pins mlflow"  # noqa: S101 - a file of this checkout
        return found[1]


def write(kit: Kit) -> bytes:
    """The zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files(kit).items()):
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _FIXED_TIME)
            entry.create_system = 3  # Unix, for the mode
            mode = 0o600 if name == ".env" else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def files(kit: Kit) -> Mapping[str, bytes]:
    """The files of a kit: name -> content."""
    found = {name: path.read_bytes() for name, path in _fixed()}
    texts = {
        ".env": client_env.dotenv(kit.variables),
        "requirements.txt": requirements(kit),
        DESCRIPTION: json.dumps(description(kit), indent=1) + "\n",
    }
    if ca := client_env.ca_of(kit.settings, kit.ca):
        texts[certificates.CA_FILE] = ca
    if kit.cluster:
        made = client_env.hadoop_files(kit.cluster)
        texts.update({f"{HADOOP}/{name}": text for name, text in made.items()})
    found.update({name: text.encode() for name, text in texts.items()})
    if kit.wheel:
        found[kit.wheel.name] = kit.wheel.read_bytes()
    return found


def _fixed() -> Iterator[tuple[str, Path]]:
    yield FIRST_RUN.name, FIRST_RUN
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and path.name != "README.md":
            yield path.relative_to(SOURCES).as_posix(), path


def requirements(kit: Kit) -> str:
    """What clients install; small, because not everybody needs all of MLflow."""
    lines = [
        "# The server's MLflow. For models, autologging and the like, write mlflow instead of",
        "# mlflow-skinny.",
        f"mlflow-skinny=={kit.mlflow}",
    ]
    store = kit.settings.artifact_store.s3 if kit.settings else None
    if store and store.access == "direct":
        lines += ["# Clients read and write artifacts in S3 themselves.", "boto3"]
    if kit.wheel:
        lines += ["# Clients read and write artifacts in HDFS themselves.", f"./{kit.wheel.name}"]
    return "\n".join(lines) + "\n"


def description(kit: Kit) -> Mapping[str, object]:
    """kit.json: what check.py compares this machine with."""
    required = [one.name for one in kit.variables if one.name not in _OPTIONAL]
    return {
        "kit": 1,
        "url": kit.url,
        "mlflow": kit.mlflow,
        "python": _OLDEST_PYTHON,
        "variables": required,
        "artifacts": _artifacts(kit),
    }


def _artifacts(kit: Kit) -> Mapping[str, object]:
    """How clients reach the artifacts; empty when the settings are not known."""
    if not kit.settings:
        return {}
    store = kit.settings.artifact_store.s3
    if store and store.access == "direct":
        return {"way": "s3", "uri": store.uri, "endpoint": store.endpoint_url}
    if store and store.clients_reach_endpoint:
        return {"way": "presigned", "endpoint": store.endpoint_url}
    if cluster := kit.cluster:
        wheel = kit.wheel.name if kit.wheel else ""
        nodes = namenodes(cluster)
        return {"way": "hdfs", "uri": cluster.uri, "namenodes": nodes, "wheel": wheel}
    return {"way": "server"}


def namenodes(cluster: Hdfs) -> Sequence[str]:
    """HOST:PORT of each namenode."""
    return [hdfs.with_port(one) for one in cluster.namenodes or (cluster.namenode,)]


def placeholders(kit: Kit) -> list[str]:
    """What people replace in .env before they use the kit."""
    return sorted({one.value for one in kit.variables if not one.known and one.value})
