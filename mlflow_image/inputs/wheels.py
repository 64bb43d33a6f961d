"""Python wheels as inputs: a lock file names one wheel and its sha256 for each package.

Lock files are requirements files (`name==version --hash=sha256:... # file name, bytes`), which
pip and uv can read too.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.files import hash_file, write
from mlflow_image.inputs.kind import Item, Kind, total_size
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step

#: Minor version of the oldest glibc among our operating systems (2.35 in Ubuntu 22.04).
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
    """One wheel file."""

    name: str
    version: str
    sha256: str
    filename: str
    size_bytes: int

    @property
    def line(self) -> str:
        """Its line in a lock file."""
        return (
            f"{self.name}=={self.version} --hash=sha256:{self.sha256}"
            f"  # {self.filename}, {self.size_bytes} bytes"
        )


@dataclass(frozen=True)
class WheelFiles(Kind):
    """The wheels of a build as an input; pip downloads them with the host's settings."""

    wheels: tuple[Wheel, ...]
    #: Version of the guest's Python, such as 3.10.
    python: str
    #: pip copies the files at the end.
    COPIES = 2

    def items(self) -> list[Item]:
        return [Item(wheel.filename, wheel.sha256, wheel.size_bytes) for wheel in self.wheels]

    def title(self, missing: list[Item]) -> str:
        return f"{len(missing)} wheels, {total_size(missing)}"

    def fetch(self, step: Step) -> None:
        missing = [wheel for wheel in self.wheels if not self.store.has(wheel.sha256)]
        if not missing:
            return
        with self.store.incoming() as folder:
            requirements = folder / "requirements.txt"
            requirements.write_text("".join(f"{wheel.line}\n" for wheel in missing))
            pip_download(requirements, self.python, folder, step, len(missing), hashes=True)
            for wheel in missing:
                self.store.add(folder / wheel.filename, wheel.sha256, wheel.filename)


def lock_file(python: str, checkout: Checkout = HERE) -> Path:
    """The lock file of the image's environment for a Python version such as 3.10."""
    return checkout.locks / f"image-{python}.txt"


def tools_lock_file(checkout: Checkout = HERE) -> Path:
    """The lock file of the provisioning steps' programs."""
    return checkout.locks / "tools.txt"


def read_lock(file: Path) -> list[Wheel]:
    """The wheels of a lock file; raises Failure naming file and line."""
    if not file.is_file():
        raise Failure(f"{file.name} is missing", remedy="run `invoke lock` to create it")
    wheels = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        wheel = parse_line(line)
        if not wheel:
            raise Failure(
                f"{file.name}:{number}: not a lock line: {line[:80]}",
                remedy="run `invoke lock` to create lock files; do not edit them by hand",
            )
        wheels.append(wheel)
    return wheels


def parse_line(line: str) -> Wheel | None:
    """The wheel of a lock line; None when the line is malformed or contradicts itself."""
    match = LOCK_LINE.match(line)
    if not match:
        return None
    wheel = Wheel(
        name=match["name"],
        version=match["version"],
        sha256=match["sha256"],
        filename=match["filename"],
        size_bytes=int(match["size"]),
    )
    try:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        same = (name, version) == (canonicalize_name(wheel.name), Version(wheel.version))
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return wheel if same else None


def select(wheels: Iterable[Wheel], package_set: str, checkout: Checkout = HERE) -> list[Wheel]:
    """The wheels of a package set: `full` is all of them, `server` omits some."""
    if package_set == "full":
        return list(wheels)
    lines = (checkout.locks / "server-leaves-out.txt").read_text().splitlines()
    left_out = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    return [wheel for wheel in wheels if wheel.name not in left_out]


def pip_download(
    requirements: Path, python: str, folder: Path, step: Step, count: int, *, hashes: bool
) -> None:
    """Run `pip download` for the guest's Python and platform, without dependencies."""
    started = 0

    def on_line(line: str) -> None:
        nonlocal started
        if line.startswith("Collecting "):
            started += 1
            step.update(f"{started} of {count}: {line.split()[1]}")

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
        env={"TMPDIR": str(folder)},  # /tmp may be small
        remedy="check the network and pip's settings (`pip config list`); once everything is "
        "fetched, --offline needs neither",
    )


def lock(source: Path, python: str, target: Path, step: Step) -> None:
    """Resolve the requirements file `source` for a guest with this Python; write the lock file.

    The wheels are downloaded, to learn which file and hash pip chooses for the guest's platform.
    Raises Failure when a package has no such wheel.
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
    lines = [line for line in resolved.splitlines() if line and not line.startswith(("#", "-"))]
    pins = [str(Requirement(line)) for line in lines]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(pins) + "\n")
        pip_download(requirements, python, folder, step, len(pins), hashes=False)
        wheels = [wheel_of(file) for file in folder.glob("*.whl")]
        if len(wheels) != len(pins):
            raise Failure(
                f"{source.name}: {len(pins)} packages were resolved for Python {python}, but "
                f"{len(wheels)} wheels were downloaded"
            )
        lines = [wheel.line for wheel in sorted(wheels, key=lambda wheel: wheel.name)]
        header = f"# Made by `invoke lock` from {source.name}, for Python {python} on x86-64."
        write(target, "\n".join([header, *lines]) + "\n")


def lock_host(source: Path, target: Path, contents: str, extra: str = "") -> None:
    """Resolve packages for every Python that a host may have, and write them with all hashes.

    source: a pyproject.toml, of which `extra` is resolved too, or a requirements file.
    """
    resolved = command.run(
        [
            *("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--universal"),
            *("--python-version", OLDEST_HOST_PYTHON, "--generate-hashes"),
            *(["--extra", extra] if extra else []),
            source,
        ],
        env=uv_environment(),
    ).stdout
    header = f"# Made by `invoke lock` from {source.name}: {contents}, for Python 3.10 to 3.13.\n"
    write(target, header + resolved)


def wheel_of(file: Path) -> Wheel:
    """The lock entry of a downloaded wheel. Raises InvalidWheelFilename."""
    name, version, _, _ = parse_wheel_filename(file.name)
    return Wheel(
        name=name,
        version=str(version),
        sha256=hash_file(file),
        filename=file.name,
        size_bytes=file.stat().st_size,
    )


def uv_environment() -> dict[str, str]:
    """The host's pip settings as uv's variables; uv reads neither pip.conf nor PIP_*."""
    listed = command.run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines()):  # ":env:" sorts first, and overrides the files
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
