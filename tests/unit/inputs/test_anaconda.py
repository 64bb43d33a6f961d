"""anaconda: which Python distribution is chosen, when that changes, how Anaconda is installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.anaconda import Installer, InstallerFile
from mlflow_image.inputs.store import Store
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step
from tests.standins import anaconda_installer
from tests.unit.conftest import Served

PINNED = anaconda.read_installer()
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def not_called(url: str) -> str:
    raise AssertionError(f"the network was asked for {url}")


def lacking(_: str) -> bool:
    return False


def holding(sha256: str) -> bool:
    return sha256 == PINNED.sha256


def decide(requested: str, checkout: Checkout, **others: Any) -> anaconda.Decision:
    defaults = {"has": lacking, "why_unavailable": not_called, "checkout": checkout}
    return anaconda.decide(requested, PINNED, **{**defaults, **others})


def test_the_pin_is_complete_and_its_wheels_are_locked() -> None:
    assert len(bytes.fromhex(PINNED.sha256)) == 32
    assert PINNED.url.endswith("/" + PINNED.file)
    assert PINNED.version in PINNED.file
    assert 1e9 < PINNED.size_bytes < 1.2e9
    assert (HERE.locks / f"image-{PINNED.python}.txt").is_file()
    assert PINNED.host == "repo.anaconda.com"


def test_auto_chooses_an_installer_in_the_store_without_asking_the_network(
    own_checkout: Checkout,
) -> None:
    decision = decide("auto", own_checkout, has=holding)
    assert (decision.choice, decision.reason) == (
        "anaconda",
        f"{PINNED.name} is in the store",
    )


def test_auto_chooses_anaconda_when_its_host_answers_and_shows_size_and_terms(
    own_checkout: Checkout,
) -> None:
    decision = decide("auto", own_checkout, why_unavailable=lambda url: "")
    assert decision.choice == "anaconda"
    assert re.search(r"about 1\.\d GB to download", str(decision))
    assert "more than 200 people need a paid licence" in str(decision)


def test_auto_chooses_the_system_s_python_when_the_host_does_not_answer(
    own_checkout: Checkout,
) -> None:
    decision = decide(
        "auto", own_checkout, why_unavailable=lambda url: "does not answer within 4 s"
    )
    assert decision.choice == "system"
    assert "repo.anaconda.com does not answer within 4 s" in decision.reason
    assert (decision.size_bytes, decision.terms) == (0, "")


def test_offline_auto_does_not_use_the_network(own_checkout: Checkout) -> None:
    assert decide("auto", own_checkout, offline=True).choice == "system"


def test_auto_is_decided_once(own_checkout: Checkout) -> None:
    first = decide("auto", own_checkout, why_unavailable=lambda url: "cannot be reached")
    assert decide("auto", own_checkout, has=holding) == first
    document = json.loads(anaconda.record_file(own_checkout).read_text())
    assert document["choice"] == "system"
    assert document["schema_version"] == 1


def test_an_explicit_choice_changes_the_record_and_auto_follows_it(own_checkout: Checkout) -> None:
    decide("auto", own_checkout, why_unavailable=lambda url: "cannot be reached")
    assert decide("anaconda", own_checkout).choice == "anaconda"
    assert decide("auto", own_checkout).choice == "anaconda"
    assert decide("system", own_checkout).choice == "system"
    assert decide("auto", own_checkout, has=holding).choice == "system"


def test_auto_decides_again_after_the_record_was_removed(own_checkout: Checkout) -> None:
    decide("auto", own_checkout, why_unavailable=lambda url: "cannot be reached")
    anaconda.forget(own_checkout)
    assert decide("auto", own_checkout, has=holding).choice == "anaconda"


def test_a_damaged_record_is_reported_with_a_remedy(own_checkout: Checkout) -> None:
    record = anaconda.record_file(own_checkout)
    record.parent.mkdir()
    for text in ("{", "[]", "{}", '{"schema_version": 1, "choice": "system"}'):
        record.write_text(text)
        with pytest.raises(Failure, match="damaged") as failure:
            decide("auto", own_checkout)
        assert f"remove {record}" in failure.value.remedy


def test_an_unknown_distribution_is_refused(own_checkout: Checkout) -> None:
    with pytest.raises(Refusal, match="miniconda"):
        decide("miniconda", own_checkout)


def test_other_pins_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "installers.yaml"
    text = (
        (HERE.locks / "installers.yaml").read_text().replace("repo.anaconda.com", "mirror.example")
    )
    other.write_text(text)
    monkeypatch.setenv("MLFLOW_IMAGE_INSTALLERS", str(other))
    assert anaconda.read_installer().host == "mirror.example"
    other.write_text("anaconda: {version: 1}")
    with pytest.raises(Failure, match="does not pin"):
        anaconda.read_installer()


def test_the_pins_are_those_of_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    text = (HERE.locks / "installers.yaml").read_text()
    (tmp_path / "locks" / "installers.yaml").write_text(text.replace("repo.", "mirror."))
    assert anaconda.read_installer(Checkout(tmp_path)).host == "mirror.anaconda.com"


def test_a_host_that_refuses_or_cannot_be_reached_is_reported(served: Served) -> None:
    # This server answers GET only, like a proxy that forbids HEAD.
    assert anaconda.why_not_fetched(f"{served.address}/x") == "answers with status 501"
    why = anaconda.why_not_fetched("http://127.0.0.1:9/x")
    assert why == "cannot be reached: Connection refused"


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


def test_a_truncated_or_wrong_installer_is_never_stored(
    served: Served, store: Store, tmp_path: Path, step: Step
) -> None:
    file = anaconda_installer.make(tmp_path)
    pin = pinned_to(file, f"{served.address}/{file.name}")
    kind = InstallerFile(store, pin)
    served.files[f"/{file.name}"] = file.read_bytes()
    served.cut_short.add(f"/{file.name}")
    with pytest.raises(Failure, match=file.name):
        kind.fetch(step)
    served.cut_short.clear()
    served.files[f"/{file.name}"] = file.read_bytes()[:-1] + b"?"
    with pytest.raises(Failure, match="wrong sha256"):
        kind.fetch(step)
    assert [item.name for item in kind.missing()] == [file.name]
    served.files[f"/{file.name}"] = file.read_bytes()
    kind.fetch(step)
    assert kind.missing() == []
    assert store.path(pin.sha256).read_bytes() == file.read_bytes()


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs scripts/guest/anaconda.sh with a stand-in: install(variant, python="3.X")."""

    def run(variant: str, python: str = PYTHON) -> subprocess.CompletedProcess[str]:
        interpreter = Path(sys.base_prefix) / "bin" / "python3"
        file = anaconda_installer.make(tmp_path, variant, str(interpreter))
        (tmp_path / "payload").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "payload" / anaconda.NAME_ON_DISC)
        return subprocess.run(
            ["bash", HERE.guest_scripts / "anaconda.sh"],
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
def test_the_environment_is_made_from_the_installer_s_own_packages(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = install("sound")
    assert done.returncode == 0, done.stderr
    python = tmp_path / "environment" / "bin" / "python"
    printed = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == str(tmp_path / "environment")
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


def test_a_python_that_the_installer_does_not_contain_fails_the_step(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = install("sound", python="3.6")
    assert done.returncode == 1
    assert "PackagesNotFoundError" in done.stderr
    assert not (tmp_path / "environment").exists()


def test_an_installer_does_not_overwrite_an_existing_folder(
    install: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "anaconda3").mkdir()
    done = install("sound")
    assert done.returncode == 1
    assert "already exists" in done.stderr
