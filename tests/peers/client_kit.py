"""A client's machine: the kit unpacked in an empty folder, and what its check.py says there."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.server import client_kit, local
from mlflow_image.server.client_kit import Kit

#: Of this host; a client in a test has its own.
FOREIGN = re.compile(
    r"(AWS|MLFLOW|HADOOP|KRB5|PYTHON|SSL_CERT)_?.*|(REQUESTS|CURL)_CA_BUNDLE|.*_proxy",
    re.IGNORECASE,
)
#: Seconds that check.py waits for each step, here.
PATIENCE_S = 2


@dataclass(frozen=True)
class Said:
    """What check.py printed. lines: name -> mark and text, with the remedy."""

    code: int
    text: str

    @property
    def lines(self) -> Mapping[str, str]:
        found = re.findall(r"^(?:ok|!!|--) +(\S+) +.*\n(?: {15}do: .*\n)?", self.text, re.MULTILINE)
        whole = re.finditer(r"^(?:ok|!!|--) +.*\n(?: {15}do: .*\n)?", self.text, re.MULTILINE)
        return dict(zip(found, (" ".join(one[0].split()) for one in whole), strict=True))

    @property
    def faults(self) -> Mapping[str, str]:
        return {name: line for name, line in self.lines.items() if line.startswith("!!")}

    @property
    def is_well(self) -> bool:
        return self.code == 0 and all(line.startswith("ok ") for line in self.lines.values())


def unpacked(kit: Kit | bytes | Path, folder: Path) -> Path:
    """The kit's folder, with the modes that the zip names."""
    packed = client_kit.write(kit) if isinstance(kit, Kit) else kit
    with zipfile.ZipFile(packed if isinstance(packed, Path) else io.BytesIO(packed)) as archive:
        archive.extractall(folder)
        for entry in archive.infolist():
            (folder / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
    return folder / client_kit.FOLDER


def changed(kit: Kit, folder: Path, values: Mapping[str, str]) -> Path:
    """The folder of a kit with these values in .env."""
    place = unpacked(kit, folder)
    edit(place, values)
    return place


def mlflow_python() -> Path:
    """A client's Python with MLflow, and the plugin for HDFS."""
    return local.environment() / "bin" / "python"


def edit(folder: Path, values: Mapping[str, str]) -> None:
    """Change or add variables in .env, as a user does."""
    file = folder / ".env"
    kept = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in values]
    file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in values.items()), ""]))


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """A client's own environment."""
    own = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    own["CLIENT_CHECK_TIMEOUT_S"] = str(PATIENCE_S)
    return {**own, "HOME": "/nonexistent", **variables}


def check(folder: Path, python: str | Path = sys.executable, **variables: str) -> Said:
    """Run check.py."""
    done = subprocess.run(
        [python, folder / "check.py"],
        env=environment(variables),
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout)


def first_run(folder: Path, python: Path) -> str:
    """What first_run.py prints after env.sh, in the kit's folder."""
    done = subprocess.run(
        ["bash", "-c", '. ./env.sh && exec "$0" first_run.py', python],
        cwd=folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
