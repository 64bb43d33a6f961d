"""Python wheels as inputs: a lock file names one wheel and one sha256 for each package.

Locks are requirements files (`name==version --hash=sha256:... # file name, bytes`), so
that pip and uv read them as well.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.files import hash_file
from mlflow_image.inputs.store import Store
from mlflow_image.paths import HERE
from mlflow_image.progress import Step

#: The newest glibc that every operating system we bake has (Ubuntu 22.04: 2.35).
GLIBC_MINOR = 35
OLDEST_HOST_PYTHON = "3.10"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC_MINOR, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]

LOCK_LINE = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})"
    r" +# (?P<filename>\S+\.whl), (?P<size>\d+) bytes$"
)


@dataclass(frozen=True)
class Wheel:
    """One wheel: exactly this file."""

    name: str
    version: str
    sha256: str
    filename: str
    size_bytes: int

    @property
    def line(self) -> str:
        """Its line of a lock file."""
        return (
            f"{self.name}=={self.version} --hash=sha256:{self.sha256}"
            f"  # {self.filename}, {self.size_bytes} bytes"
        )


def lock_file(python: str) -> Path:
    """The lock of the image's environment for a Python such as 3.10."""
    return HERE.locks / f"image-{python}.txt"


def read_lock(file: Path) -> list[Wheel]:
    """The wheels of a lock file; raises Failure naming file, line and remedy."""
    if not file.is_file():
        raise Failure(f"{file.name} is missing", remedy="`invoke lock` makes it")
    wheels = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LOCK_LINE.match(line)
        if not match:
            raise Failure(
                f"{file.name}:{number}: not a lock line: {line[:80]}",
                remedy="locks are made by `invoke lock`, not by hand",
            )
        wheels.append(
            Wheel(
                name=match["name"],
                version=match["version"],
                sha256=match["sha256"],
                filename=match["filename"],
                size_bytes=int(match["size"]),
            )
        )
    return wheels


def select(wheels: Iterable[Wheel], package_set: str) -> list[Wheel]:
    """The wheels of a package set: `full` is all of them, `server` leaves some out."""
    if package_set == "full":
        return list(wheels)
    lines = (HERE.locks / "server-leaves-out.txt").read_text().splitlines()
    left_out = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    return [wheel for wheel in wheels if wheel.name not in left_out]


def fetch(wheels: Iterable[Wheel], python: str, store: Store, step: Step) -> None:
    """Bring the wheels into the store; pip downloads them from wherever the host's pip does.

    Raises Failure when one cannot be had or has another hash than the lock says.
    """
    missing = [wheel for wheel in wheels if not store.intact(wheel.sha256)]
    if not missing:
        return
    with store.incoming() as folder:
        requirements = folder / "requirements.txt"
        requirements.write_text("".join(f"{wheel.line}\n" for wheel in missing))
        pip_download(requirements, python, folder, step, len(missing), hashes=True)
        for wheel in missing:
            store.add(folder / wheel.filename, wheel.sha256, wheel.filename)


def pip_download(
    requirements: Path, python: str, folder: Path, step: Step, count: int, *, hashes: bool
) -> None:
    """`pip download` of exactly the named wheels for the guest's Python and platform."""
    begun = 0

    def on_line(line: str) -> None:
        nonlocal begun
        if line.startswith("Collecting "):
            begun += 1
            step.update(f"{begun} of {count}: {line.split()[1]}")

    command.stream(
        [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
            *(["--require-hashes"] if hashes else []),
            *("--python-version", python, "--implementation", "cp"),
            *(f"--platform={platform}" for platform in PLATFORMS),
            *("--progress-bar=off", "--disable-pip-version-check"),
            *("--dest", folder, "--requirement", requirements),
        ],
        on_line,
        remedy="check the network and pip's settings (`pip config list`); once fetched, "
        "`--offline` needs neither",
    )


def lock(source: Path, python: str, target: Path, step: Step) -> None:
    """Resolve a requirements file for a guest with this Python, and write the lock.

    source: names and versions as one writes them. The wheels chosen are downloaded to
    learn the one file and hash that the guest's platform takes.
    """
    step.update("resolving")
    resolved = command.run(
        [
            *("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
            *("--only-binary", ":all:", "--python-version", python),
            *("--python-platform", f"x86_64-manylinux_2_{GLIBC_MINOR}", source),
        ],
        env=uv_environment(),
    ).stdout
    pins = [line.split()[0] for line in resolved.splitlines() if "==" in line]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(pins) + "\n")
        pip_download(requirements, python, folder, step, len(pins), hashes=False)
        wheels = [wheel_of(file) for file in folder.glob("*.whl")]
        if len(wheels) != len(pins):
            raise Failure(f"{len(pins)} packages were resolved, {len(wheels)} wheels came")
        lines = [wheel.line for wheel in sorted(wheels, key=lambda wheel: wheel.name)]
        header = f"# Made by `invoke lock` from {source.name}, for Python {python} on x86-64."
        beside = target.with_suffix(".new")
        beside.write_text("\n".join([header, *lines]) + "\n")
        beside.replace(target)


def lock_host(project: Path, target: Path) -> None:
    """Resolve the host's own environment, for every Python and with all hashes, and write it."""
    resolved = command.run(
        [
            *("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--universal"),
            *("--python-version", OLDEST_HOST_PYTHON, "--generate-hashes", "--extra", "dev"),
            project,
        ],
        env=uv_environment(),
    ).stdout
    header = (
        f"# Made by `invoke lock` from {project.name}: what .venv holds, Python 3.10 to 3.13.\n"
    )
    beside = target.with_suffix(".new")
    beside.write_text(header + resolved)
    beside.replace(target)


def wheel_of(file: Path) -> Wheel:
    """What a downloaded wheel is, from its name (PEP 427) and bytes; the name normalised."""
    name, version = file.name.split("-")[:2]
    return Wheel(
        name=re.sub(r"[-_.]+", "-", name).lower(),
        version=version,
        sha256=hash_file(file),
        filename=file.name,
        size_bytes=file.stat().st_size,
    )


def uv_environment() -> dict[str, str]:
    """pip's settings of this host in uv's words: uv reads neither pip.conf nor PIP_*."""
    listed = command.run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines()):  # ":env:" sorts first; files must not override it
        key, _, value = line.partition("=")
        settings.setdefault(key.split(".", 1)[-1], value.strip("'\""))
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
        "trusted-host": "UV_INSECURE_HOST",
    }
    found = {names[key]: value for key, value in settings.items() if key in names}
    found = {key: " ".join(value.split("\\n")).strip() for key, value in found.items()}
    return {key: value for key, value in found.items() if key not in os.environ}
