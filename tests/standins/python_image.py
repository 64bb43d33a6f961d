"""A container image in place of Docker Hub's `python`, for hosts that cannot pull it.

It is a small tree of this host's own distribution with its Python and pip, and pip's settings of
this host: what comes of it stays in the registry of a test.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from mlflow_image.paths import cache
from tests.peers.docker_engine import Docker

TREE, NAME = "mlflow-image-tree", "mlflow-image-python"
PACKAGES = "ca-certificates,python3-pip,python3-venv"
DOCKERFILE = f"""
FROM {TREE}
COPY certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf constraints.txt /etc/
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s python3 /usr/bin/python
ENV PIP_CONSTRAINT=/etc/constraints.txt
"""


def lacks() -> str:
    return "" if shutil.which("mmdebstrap") else "mmdebstrap not installed"


def build(docker: Docker, constraints: str) -> str:
    """Make the image; returns its name. constraints: which versions pip installs."""
    docker("import", tree(), TREE)
    folder = docker.folder / "python-image"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "constraints.txt").write_text(constraints)
    settings = _pip_settings()
    certificates = settings.pop("cert", "/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(certificates, folder / "certificates.crt")
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    docker("build", "--quiet", "--tag", NAME, folder)
    return NAME


def tree() -> Path:
    """The tree as a tar, made once (a minute or two)."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    place = cache() / "peers" / f"python-tree-{suite}" / "tree.tar"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / "lock"):
        if not place.exists():
            made = place.with_name("new.tar")
            words = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(made)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            made.rename(place)
    return place


def _pip_settings() -> dict[str, str]:
    """This host's settings of pip; what names files of this host is left out."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines()):  # ":env:" sorts first, and overrides the files
        key, _, value = line.partition("=")
        name = key.split(".", 1)[-1]
        if name in ("cert", "index-url", "extra-index-url", "trusted-host", "proxy"):
            settings.setdefault(name, value.strip("'\""))
    return settings
