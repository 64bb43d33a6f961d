"""anaconda: which Python distribution is chosen, when that changes, and its pinned installer."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.builder import doctor
from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.anaconda import Installer, InstallerFile
from mlflow_image.inputs.store import Store
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step
from tests.standins import anaconda_installer
from tests.unit.conftest import Served

PINNED = anaconda.read_installer("anaconda")


def not_called(url: str) -> str:
    raise AssertionError(f"the network was asked for {url}")


def lacking(_: str) -> bool:
    return False


def holding(sha256: str) -> bool:
    return sha256 == PINNED.sha256


def decide(requested: str, checkout: Checkout, **others: Any) -> anaconda.Decision:
    defaults = {"has": lacking, "why_unavailable": not_called, "checkout": checkout}
    return anaconda.decide(requested, **{**defaults, **others})


def test_every_distribution_is_pinned() -> None:
    assert tuple(anaconda.read_installers()) == anaconda.WITH_INSTALLER


@pytest.mark.parametrize(
    ("distribution", "host", "gigabytes", "installed"),
    [("anaconda", "repo.anaconda.com", 1.05, 7.6), ("miniforge", "github.com", 0.094, 0.6)],
)
def test_a_pin_is_complete_and_its_wheels_are_locked(
    distribution: str, host: str, gigabytes: float, installed: float
) -> None:
    pin = anaconda.read_installer(distribution)
    assert len(bytes.fromhex(pin.sha256)) == 32
    assert pin.url.endswith("/" + pin.file)
    assert f"{pin.version}-Linux-x86_64.sh" in pin.file
    assert pin.size_bytes / 1e9 == pytest.approx(gigabytes, rel=0.02)
    assert pin.installed_bytes / 1e9 == pytest.approx(installed, rel=0.02)
    assert (HERE.locks / f"image-{pin.python}.txt").is_file()
    assert pin.host == host
    assert pin.prefix == f"/opt/{distribution}3"


def test_only_anaconda_has_terms_that_ask_for_money() -> None:
    assert "organisations with 200 or more people need a paid licence" in PINNED.terms
    assert anaconda.read_installer("miniforge").terms == ""


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
    assert "200 or more people need a paid licence" in str(decision)


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


def test_miniforge_is_only_an_explicit_choice_which_auto_follows(own_checkout: Checkout) -> None:
    assert decide("miniforge", own_checkout).choice == "miniforge"
    assert decide("auto", own_checkout, has=holding).choice == "miniforge"


def test_size_and_terms_are_those_of_the_pin_when_the_record_is_older(
    own_checkout: Checkout,
) -> None:
    first = decide("anaconda", own_checkout)
    record = anaconda.record_file(own_checkout)
    record.write_text(record.read_text().replace("200 or more", "more than 200"))
    for requested in ("auto", "anaconda"):
        assert decide(requested, own_checkout) == first
        assert "200 or more" in record.read_text()


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
    assert anaconda.read_installer("anaconda").host == "mirror.example"
    for malformed in ("anaconda: {version: 1}", "- anaconda", "anaconda: 1", "", "{"):
        other.write_text(malformed)
        with pytest.raises(Failure, match="does not pin"):
            anaconda.read_installer("anaconda")


def test_a_distribution_that_other_pins_leave_out_is_reported(
    own_checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "installers.yaml"
    text = (HERE.locks / "installers.yaml").read_text()
    other.write_text(text[: text.index("miniforge:")])
    monkeypatch.setenv("MLFLOW_IMAGE_INSTALLERS", str(other))
    assert decide("anaconda", own_checkout).choice == "anaconda"
    with pytest.raises(Failure, match="pins no installer of miniforge") as failure:
        decide("miniforge", own_checkout)
    assert str(other) in failure.value.what


def test_auto_takes_the_systems_python_when_no_anaconda_is_pinned(
    own_checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_miniforge(tmp_path, monkeypatch)
    decision = decide("auto", own_checkout, why_unavailable=lambda url: "")
    assert (decision.choice, decision.reason) == ("system", "no installer of Anaconda is pinned")
    (row,) = doctor.network()
    assert "pins no Anaconda" in row.found and not row.needed
    (tmp_path / "installers.yaml").write_text("- malformed")
    (row,) = doctor.network()
    assert "does not pin installers" in row.found and row.needed


def only_miniforge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins of a company that uses Miniforge alone."""
    text = (HERE.locks / "installers.yaml").read_text()
    other = tmp_path / "installers.yaml"
    other.write_text(text[text.index("miniforge:") :])
    monkeypatch.setenv("MLFLOW_IMAGE_INSTALLERS", str(other))


def test_the_pins_are_those_of_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    text = (HERE.locks / "installers.yaml").read_text()
    (tmp_path / "locks" / "installers.yaml").write_text(text.replace("repo.", "mirror."))
    assert anaconda.read_installer("anaconda", Checkout(tmp_path)).host == "mirror.anaconda.com"


def test_a_host_that_refuses_or_cannot_be_reached_is_reported(served: Served) -> None:
    # This server answers GET only, like a proxy that forbids HEAD.
    assert anaconda.why_not_fetched(f"{served.address}/x") == "answers with status 501"
    why = anaconda.why_not_fetched("http://127.0.0.1:9/x")
    assert why == "cannot be reached: Connection refused"


def pinned_to(file: Path, url: str) -> Installer:
    content = file.read_bytes()
    return Installer(
        distribution="anaconda",
        version="stand-in",
        python="3.11",
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
