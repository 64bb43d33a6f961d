"""Which Python distribution is taken, when that changes, and Anaconda's way into the image."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_image import paths
from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.anaconda import Installer
from mlflow_image.inputs.store import Store
from tests.standins import anaconda_installer
from tests.unit.conftest import Served

PINNED = anaconda.read_installer()
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def unasked(url: str) -> str:
    raise AssertionError(f"the network was asked for {url}")


def lacking(_: str) -> bool:
    return False


def holding(sha256: str) -> bool:
    return sha256 == PINNED.sha256


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "state" / "python-distribution.json"


def decide(asked: str, record: Path, **others: Any) -> anaconda.Decision:
    return anaconda.decide(
        asked, PINNED, **{"has": lacking, "why_no_answer": unasked, "record": record, **others}
    )


def test_the_pin_is_complete_and_its_wheels_are_locked() -> None:
    assert len(bytes.fromhex(PINNED.sha256)) == 32
    assert PINNED.url.endswith("/" + PINNED.file)
    assert PINNED.version in PINNED.file
    assert 1e9 < PINNED.size_bytes < 1.2e9
    assert (paths.HERE.locks / f"image-{PINNED.python}.txt").is_file()
    assert PINNED.host == "repo.anaconda.com"


def test_auto_takes_an_installer_that_is_in_the_store_without_asking_the_network(
    record: Path,
) -> None:
    decision = decide("auto", record, has=holding)
    assert (decision.choice, decision.reason) == (
        "anaconda",
        "Anaconda 2025.06-0 is in the store",
    )


def test_auto_takes_anaconda_when_its_host_answers_and_says_size_and_terms(record: Path) -> None:
    decision = decide("auto", record, why_no_answer=lambda url: "")
    assert decision.choice == "anaconda"
    assert "about 1.1 GB" in str(decision) or "about 1.0 GB" in str(decision)
    assert "more than 200 people need a paid licence" in str(decision)


def test_auto_takes_the_systems_python_when_the_host_does_not_answer(record: Path) -> None:
    decision = decide("auto", record, why_no_answer=lambda url: "does not answer within 4 s")
    assert decision.choice == "system"
    assert "repo.anaconda.com does not answer within 4 s" in decision.reason
    assert (decision.size_bytes, decision.terms) == (0, "")


def test_offline_auto_asks_no_network(record: Path) -> None:
    assert decide("auto", record, offline=True).choice == "system"


def test_auto_is_decided_once(record: Path) -> None:
    first = decide("auto", record, why_no_answer=lambda url: "cannot be reached")
    assert decide("auto", record, has=holding) == first
    document = json.loads(record.read_text())
    assert document["choice"] == "system"
    assert document["schema_version"] == 1


def test_an_explicit_choice_changes_the_record_and_auto_keeps_to_it(record: Path) -> None:
    decide("auto", record, why_no_answer=lambda url: "cannot be reached")
    assert decide("anaconda", record).choice == "anaconda"
    assert decide("auto", record).choice == "anaconda"
    assert decide("system", record).choice == "system"
    assert decide("auto", record, has=holding).choice == "system"


def test_after_forgetting_auto_decides_anew(record: Path) -> None:
    decide("auto", record, why_no_answer=lambda url: "cannot be reached")
    anaconda.forget(record)
    assert decide("auto", record, has=holding).choice == "anaconda"


def test_a_damaged_record_is_told_with_its_remedy(record: Path) -> None:
    record.parent.mkdir()
    for text in ("{", "[]", "{}", '{"schema_version": 1, "choice": "system"}'):
        record.write_text(text)
        with pytest.raises(Failure, match="damaged") as failure:
            decide("auto", record)
        assert "remove it" in failure.value.remedy


def test_an_unknown_distribution_is_refused(record: Path) -> None:
    with pytest.raises(Refusal, match="miniconda"):
        decide("miniconda", record)


def test_other_pins_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "installers.yaml"
    text = anaconda.INSTALLERS.read_text().replace("repo.anaconda.com", "mirror.example")
    other.write_text(text)
    monkeypatch.setenv("MLFLOW_IMAGE_INSTALLERS", str(other))
    assert anaconda.read_installer().host == "mirror.example"
    other.write_text("anaconda: {version: 1}")
    with pytest.raises(Failure, match="does not pin"):
        anaconda.read_installer()


def test_a_host_that_refuses_or_lacks_the_file_is_told_so(served: Served) -> None:
    # The server of these tests knows GET only, as a proxy that forbids HEAD.
    assert anaconda.why_not_fetched(f"{served.address}/x") == "answers with status 501"
    assert "cannot be reached" in anaconda.why_not_fetched("http://127.0.0.1:9/x")


def pinned_to(file: Path, url: str) -> Installer:
    content = file.read_bytes()
    return Installer(
        version="stand-in",
        python=PYTHON,
        file=file.name,
        url=url,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        installed_bytes=0,
        terms="",
    )


def test_a_truncated_and_a_wrong_installer_never_reach_the_store(
    served: Served, store: Store, tmp_path: Path
) -> None:
    file = anaconda_installer.make(tmp_path)
    pin = pinned_to(file, f"{served.address}/{file.name}")
    served.files[f"/{file.name}"] = file.read_bytes()
    served.cut_short.add(f"/{file.name}")
    with pytest.raises(Failure, match=file.name):
        store.fetch(pin.url, pin.sha256, pin.file)
    served.cut_short.clear()
    served.files[f"/{file.name}"] = file.read_bytes()[:-1] + b"?"
    with pytest.raises(Failure, match="wrong sha256"):
        store.fetch(pin.url, pin.sha256, pin.file)
    assert not store.has(pin.sha256)
    served.files[f"/{file.name}"] = file.read_bytes()
    assert store.fetch(pin.url, pin.sha256, pin.file).read_bytes() == file.read_bytes()


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs scripts/guest/anaconda.sh on a stand-in: install(variant, python="3.X")."""

    def run(variant: str, python: str = PYTHON) -> subprocess.CompletedProcess[str]:
        interpreter = Path(sys.base_prefix) / "bin" / "python3"
        file = anaconda_installer.make(tmp_path, variant, str(interpreter))
        (tmp_path / "payload").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "payload" / anaconda.NAME_ON_DISC)
        return subprocess.run(
            ["bash", paths.HERE.guest_scripts / "anaconda.sh"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path / "home"),
                "TMPDIR": str(tmp_path),
                "PAYLOAD": str(tmp_path / "payload"),
                "PYTHON_VERSION": python,
                "ANACONDA_PREFIX": str(tmp_path / "anaconda3"),
                "ENVIRONMENT_PREFIX": str(tmp_path / "environment"),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.budget(10)
def test_the_environment_comes_from_the_installers_own_packages(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = install("sound")
    assert done.returncode == 0, done.stderr
    python = tmp_path / "environment" / "bin" / "python"
    said = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(tmp_path / "environment")
    assert (tmp_path / "anaconda3" / "bin" / "conda").is_file()
    assert not (tmp_path / "home").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("tmp.")) == []


def test_a_failing_installer_fails_the_step_with_its_own_message(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = install("failing")
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert not (tmp_path / "environment").exists()


def test_a_truncated_installer_fails_the_step(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = install("truncated")
    assert done.returncode == 1
    assert "should be" in done.stderr
    assert not (tmp_path / "environment").exists()


def test_a_python_that_the_installer_does_not_carry_fails_the_step(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = install("sound", python="3.6")
    assert done.returncode == 1
    assert "PackagesNotFoundError" in done.stderr
    assert not (tmp_path / "environment").exists()


def test_an_installer_does_not_overwrite_what_is_there(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "anaconda3").mkdir()
    done = install("sound")
    assert done.returncode == 1
    assert "already exists" in done.stderr
