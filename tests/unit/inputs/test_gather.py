"""inputs: when the list of apt packages is made again, and what is said about it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import progress
from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import anaconda, apt, archive_keys, cloud_image, gather
from mlflow_image.inputs.apt import Archive, Resolution
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Freshness, Inputs
from mlflow_image.inputs.store import Store
from tests.unit.samples import package

DEFINITION = Definition()
NAMES = apt.wanted(DEFINITION.system)
DAY_S = 86400.0


def resolution(age_days: float, version: str = "1", leave_out: str = "") -> Resolution:
    packages = tuple(package(name, version) for name in NAMES if name != leave_out)
    return Resolution(packages, ("deb http://archive.example jammy main",), at(age_days))


def at(age_days: float) -> float:
    return time.time() - age_days * DAY_S


@pytest.mark.parametrize(
    ("freshness", "age_days", "wanted"),
    [
        (Freshness(), None, True),
        (Freshness(), 6.9, False),
        (Freshness(), 7.1, True),
        (Freshness(refresh=True), 0, True),
        (Freshness(refresh=False), 700, False),
        (Freshness(refresh=False), None, True),
        (Freshness(offline=True), None, False),
        (Freshness(offline=True), 700, False),
    ],
)
def test_a_list_is_made_again_after_a_week_or_when_asked(
    freshness: Freshness, age_days: float | None, wanted: bool
) -> None:
    old = None if age_days is None else resolution(age_days)
    assert freshness.wants_new(old) is wanted


class StandInArchive:
    """Takes the archive's place: answers with `answer`, or fails when there is none."""

    def __init__(self) -> None:
        self.answer: Resolution | None = None
        self.asked: list[list[str]] = []

    def resolve(self, _: Archive, names: list[str], step: progress.Step) -> Resolution:
        self.asked.append(names)
        if self.answer is None:
            raise Failure("the archive cannot be reached")
        return self.answer


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandInArchive:
    stand_in = StandInArchive()
    monkeypatch.setattr(Archive, "resolve", lambda *args: stand_in.resolve(*args))
    monkeypatch.setattr(archive_keys, "public_sources", lambda _: ("deb http://a.example j m",))
    monkeypatch.setattr(archive_keys, "keyring", lambda *_: tmp_path / "keyring")
    return stand_in


def resolve(freshness: Freshness, store: Store) -> Resolution:
    return gather.resolve(DEFINITION, freshness, store, "")


def test_the_first_list_is_made_and_kept(archive: StandInArchive, store: Store) -> None:
    archive.answer = resolution(0)
    assert resolve(Freshness(), store) == archive.answer
    assert archive.asked == [NAMES]
    assert apt.load(gather.resolution_file(DEFINITION)) == archive.answer


def test_a_fresh_list_is_taken_without_a_question(archive: StandInArchive, store: Store) -> None:
    kept = resolution(3)
    apt.save(kept, gather.resolution_file(DEFINITION))
    assert resolve(Freshness(), store) == kept
    assert archive.asked == []


def test_a_new_list_says_its_difference_in_one_line(
    archive: StandInArchive, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    apt.save(resolution(8), gather.resolution_file(DEFINITION))
    archive.answer = resolution(0, version="2")
    assert resolve(Freshness(), store) == archive.answer
    said = [line for line in capsys.readouterr().out.splitlines() if "changed" in line]
    assert len(said) == 1
    assert said[0].startswith("apt packages changed: apt 1 -> 2, ca-certificates 1 -> 2, ")


def test_without_the_archive_an_old_list_stays_and_says_its_age(
    archive: StandInArchive, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = resolution(30)
    apt.save(kept, gather.resolution_file(DEFINITION))
    assert resolve(Freshness(), store) == kept
    warning = capsys.readouterr().err
    assert "stay those of 30 days ago: the archive cannot be reached" in warning


def test_a_refresh_that_was_asked_for_must_work(archive: StandInArchive, store: Store) -> None:
    apt.save(resolution(1), gather.resolution_file(DEFINITION))
    with pytest.raises(Failure, match="cannot be reached"):
        resolve(Freshness(refresh=True), store)


def test_offline_without_a_list_says_what_to_do(archive: StandInArchive, store: Store) -> None:
    with pytest.raises(Refusal, match=r"no list of apt packages for ubuntu-22\.04") as caught:
        resolve(Freshness(offline=True), store)
    assert "invoke fetch" in caught.value.remedy
    assert archive.asked == []


def test_a_list_that_lacks_a_name_is_made_again(archive: StandInArchive, store: Store) -> None:
    apt.save(resolution(1, leave_out="cloud-init"), gather.resolution_file(DEFINITION))
    archive.answer = resolution(0)
    assert resolve(Freshness(), store) == archive.answer


def test_more_apt_packages_have_a_list_of_their_own() -> None:
    one = gather.resolution_file(Definition(apt_packages=("vim", "jq")))
    same = gather.resolution_file(Definition(apt_packages=("jq", "vim")))
    assert one == same != gather.resolution_file(DEFINITION)


def test_offline_names_what_the_store_lacks(make_inputs: Callable[..., Inputs]) -> None:
    with pytest.raises(Failure, match=r"lacks bash=5\.1, .*and \d more") as caught:
        gather.fetch(make_inputs(), offline=True)
    assert "invoke fetch" in caught.value.remedy


def test_an_altered_file_of_the_store_is_named_and_refused_offline(
    make_inputs: Callable[..., Inputs],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = make_inputs()
    wheel = wanted.wheels[0]
    path = wanted.store.path(wheel.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"altered")
    with pytest.raises(Refusal, match=re.escape(wheel.filename)):
        gather.fetch(replace(wanted, packages=None, wheels=(wheel,), tools=()), offline=True)
    assert f"the store's copy of {wheel.filename} was altered" in capsys.readouterr().err
    assert not path.exists()


def test_nothing_is_fetched_when_the_store_has_everything(
    make_inputs: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "intact", lambda *_: True)
    gather.fetch(make_inputs(), offline=True)


@pytest.fixture
def of_cloud_image(make_inputs: Callable[..., Inputs]) -> Inputs:
    """The inputs of a build on the vendor's cloud image."""
    image = CloudImage("https://a.example/r", "image.img", "d" * 64, "E" * 40, "/keys.gpg")
    return replace(make_inputs(), packages=None, cloud_image=image)


def test_a_cloud_image_needs_no_list_of_apt_packages(
    archive: StandInArchive, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decided = anaconda.Decision("system", "a test", 0, "", "")
    monkeypatch.setattr(anaconda, "decide", lambda *_, **__: decided)
    gathered = gather.gather(Definition(base="cloud-image", python="system"), Freshness())
    assert (gathered.packages, gathered.apt_packages, archive.asked) == (None, (), [])
    assert gathered.cloud_image == cloud_image.pinned("ubuntu-22.04")
    assert gathered.wheels


def test_a_cloud_image_without_a_pin_is_no_build(archive: StandInArchive, store: Store) -> None:
    with pytest.raises(Failure, match="debian-12 has no pinned cloud image"):
        gather.gather(Definition(os="debian-12", base="cloud-image"), Freshness())


def test_offline_names_the_cloud_image_that_the_store_lacks(of_cloud_image: Inputs) -> None:
    with pytest.raises(Failure, match=r"lacks .*image\.img"):
        gather.fetch(of_cloud_image, offline=True)


def test_a_cloud_image_is_fetched_with_its_keyring(
    of_cloud_image: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "intact", lambda *_: True)
    fetched = []
    monkeypatch.setattr(cloud_image, "fetch", lambda *args: fetched.append(args[:2]))
    gather.fetch(of_cloud_image, offline=False)
    assert fetched == [(of_cloud_image.cloud_image, Path("/keys.gpg"))]


def test_a_disk_too_small_for_anaconda_is_refused_also_where_auto_became_that(
    archive: StandInArchive, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = anaconda.Decision("anaconda", "a test", 1, "terms", "2026-01-02T03:04:05Z")
    monkeypatch.setattr(anaconda, "decide", lambda *_, **__: decided)
    archive.answer = resolution(0)
    with pytest.raises(Refusal, match="disk_mib: 4096 MiB is too small for Anaconda"):
        gather.gather(Definition(disk_mib=4096), Freshness())
