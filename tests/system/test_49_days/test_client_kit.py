"""examples/client-kit/: the kit of a VM, used from new environments as its README.txt says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_image.paths import HERE
from tests.peers import arguments, client_kit, environments
from tests.peers.client_kit import Said

from .conftest import ADMIN, PASSWORD, USER, Day, row

pytestmark = pytest.mark.full

ROW = row("the client kit")
#: Python -> MLflow.
CLIENTS = {"3.10": "2.22", "3.13": "3.17"}
#: An emulated VM answers slowly.
PATIENT = {"CLIENT_CHECK_TIMEOUT_S": "30"}


@dataclass(frozen=True)
class Made:
    """A zip that `client-kit` wrote, what it printed, and which command lines were seen."""

    file: Path
    printed: str
    lines: str


def made(day: Day, file: Path, *words: str) -> Made:
    with arguments.watched() as seen:
        # A VM is asked for its CA; another server's is given.
        own = () if "--name" in day.words else ("--ca", str(day.ca))
        done = day.tasks("client-kit", *day.words, *own, "--out", str(file), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return Made(file, done.stdout + done.stderr, "\n".join(seen))


@pytest.mark.budget(900)
def test_a_kit_for_everybody_has_no_secret_and_its_check_says_what_to_write(
    day: Day, tmp_path: Path
) -> None:
    kit = made(day, tmp_path / "kit.zip")
    for canary in (PASSWORD, ADMIN[1]):
        assert canary.encode() not in kit.file.read_bytes()
        assert canary not in kit.printed
        assert canary not in kit.lines
    assert "client-kit" in kit.lines, "command lines were seen"
    place = client_kit.unpacked(kit.file, tmp_path)
    said = client_kit.check(place, **PATIENT)
    assert "replace YOUR_NAME in .env" in said.faults["kit"]
    assert said.lines["server"].startswith("ok"), said.text
    assert "--" in said.lines["sign-in"]
    client_kit.edit(place, {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD})
    (place / ".env").chmod(0o644)
    assert "chmod 600" in client_kit.check(place, **PATIENT).faults["kit"]
    again = made(day, tmp_path / "again.zip")
    assert again.file.read_bytes() == kit.file.read_bytes()


@pytest.fixture(scope="module")
def whole(day: Day, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The kit with the first user's password."""
    return made(day, tmp_path_factory.mktemp("kit") / "kit.zip", "--with-secrets")


def installed(version: str, place: Path) -> Path:
    """A new environment in the kit's folder, as README.txt makes it; returns its Python."""
    base = environments.interpreter(version)
    if not base:
        pytest.skip(f"there is no Python {version} here")
    python = place / ".venv" / "bin" / "python"
    environments.uv("venv", "--quiet", "--no-project", "--python", base, python.parents[1])
    older = HERE.locks / "examples" / "client-kit-older.txt"
    words: dict[str, tuple[str | Path, ...]] = {
        "2.22": ("--require-hashes", "-r", older),
        "3.17": ("-r", place / "requirements.txt", "-c", HERE.locks / "host.txt"),
    }
    environments.uv("pip", "install", "--quiet", "--python", python, *words[CLIENTS[version]])
    return python


@pytest.mark.budget(600)
@pytest.mark.verifies(ROW)
@pytest.mark.parametrize("version", CLIENTS)
def test_a_new_environment_checks_and_logs(
    version: str,
    day: Day,
    whole: Made,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    assert PASSWORD not in whole.printed + whole.lines
    assert ADMIN[1].encode() not in whole.file.read_bytes()
    assert whole.file.stat().st_mode & 0o777 == 0o600
    place = client_kit.unpacked(whole.file, tmp_path)
    assert (place / ".env").stat().st_mode & 0o777 == 0o600
    base = environments.interpreter(version) or "python3"
    before: Said = client_kit.check(place, base, **PATIENT)
    assert list(before.faults) == ["MLflow"], before.text
    python = installed(version, place)
    begun_s = time.monotonic()
    said = client_kit.check(place, python, **PATIENT)
    took_s = time.monotonic() - begun_s
    assert said.is_well, said.text
    assert said.lines["MLflow"].startswith(f"ok MLflow {CLIENTS[version]}")
    assert f"as {USER}" in said.lines["sign-in"]
    assert "through the server" in said.lines["artifacts"]
    assert "its file says: alpha: 0.5" in client_kit.first_run(place, python)
    record_property("figure", f"Python {version}: {took_s:.0f} s")
