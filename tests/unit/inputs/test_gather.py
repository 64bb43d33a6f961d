"""gather: when apt packages are resolved again, and which inputs are missing and fetched."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import space
from mlflow_image.errors import Failure, Refusal
from mlflow_image.files import hash_file
from mlflow_image.inputs import anaconda, apt, cloud_image, gather
from mlflow_image.inputs.apt import Resolution
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Freshness, Inputs
from mlflow_image.inputs.store import Store
from mlflow_image.inputs.wheels import Wheel, WheelFiles
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step
from mlflow_image.space import DiskFull
from tests.unit.inputs.conftest import IMAGE_CONTENT
from tests.unit.samples import package

WHEEL = Wheel("a", "1", "a" * 64, "a-1-py3-none-any.whl", 7)
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
def test_packages_are_resolved_again_after_a_week_or_on_request(
    freshness: Freshness, age_days: float | None, wanted: bool
) -> None:
    old = None if age_days is None else resolution(age_days)
    assert freshness.wants_new(old) is wanted


class StandInArchive:
    """Replaces the archive: resolves to `answer`, or fails when there is none."""

    def __init__(self) -> None:
        self.answer: Resolution | None = None
        self.asked: list[list[str]] = []

    def resolve(self, names: list[str], step: Step) -> Resolution:
        self.asked.append(names)
        if self.answer is None:
            raise Failure("the archive cannot be reached")
        return self.answer


@pytest.fixture
def archive() -> StandInArchive:
    return StandInArchive()


@pytest.fixture
def resolve(archive: StandInArchive, store: Store) -> Callable[[Freshness], Resolution]:
    return lambda freshness: gather.resolve(DEFINITION, freshness, store, archive.resolve)


Resolve = Callable[[Freshness], Resolution]


def save(resolution: Resolution) -> Resolution:
    apt.save(resolution, gather.resolution_file(DEFINITION))
    return resolution


def test_the_first_resolution_is_saved(archive: StandInArchive, resolve: Resolve) -> None:
    archive.answer = resolution(0)
    assert resolve(Freshness()) == archive.answer
    assert archive.asked == [NAMES]
    assert apt.load(gather.resolution_file(DEFINITION)) == archive.answer


def test_a_recent_resolution_is_used_without_asking_the_archive(
    archive: StandInArchive, resolve: Resolve
) -> None:
    saved = save(resolution(3))
    assert resolve(Freshness()) == saved
    assert archive.asked == []


def test_a_new_resolution_prints_its_difference_in_one_line(
    archive: StandInArchive, resolve: Resolve, capsys: pytest.CaptureFixture[str]
) -> None:
    save(resolution(8))
    archive.answer = resolution(0, version="2")
    assert resolve(Freshness()) == archive.answer
    printed = [line for line in capsys.readouterr().out.splitlines() if "changed" in line]
    assert len(printed) == 1
    assert printed[0].startswith("apt packages changed: apt 1 -> 2, ca-certificates 1 -> 2, ")


def test_without_the_archive_an_old_resolution_is_used_with_a_warning(
    archive: StandInArchive, resolve: Resolve, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save(resolution(30))
    assert resolve(Freshness()) == saved
    warning = capsys.readouterr().err
    assert "resolved 30 days ago: the archive cannot be reached" in warning


def test_an_explicit_refresh_must_succeed(archive: StandInArchive, resolve: Resolve) -> None:
    save(resolution(1))
    with pytest.raises(Failure, match="cannot be reached"):
        resolve(Freshness(refresh=True))


def test_offline_without_a_resolution_is_refused_with_a_remedy(
    archive: StandInArchive, resolve: Resolve
) -> None:
    with pytest.raises(
        Refusal, match=r"packages of ubuntu-22\.04 have not been resolved"
    ) as caught:
        resolve(Freshness(offline=True))
    assert "invoke fetch" in caught.value.remedy
    assert archive.asked == []


def test_a_resolution_that_lacks_a_package_is_made_again(
    archive: StandInArchive, resolve: Resolve
) -> None:
    save(resolution(1, leave_out="cloud-init"))
    archive.answer = resolution(0)
    assert resolve(Freshness()) == archive.answer


def test_other_apt_packages_have_another_resolution() -> None:
    one = gather.resolution_file(Definition(apt_packages=("vim", "jq")))
    same = gather.resolution_file(Definition(apt_packages=("jq", "vim")))
    assert one == same != gather.resolution_file(DEFINITION)


def test_offline_names_what_the_store_lacks(make_inputs: Callable[..., Inputs]) -> None:
    with pytest.raises(Refusal, match=r"lacks bash=5\.1, .*and \d more") as caught:
        gather.fetch(make_inputs(), offline=True)
    assert "invoke fetch" in caught.value.remedy


@pytest.fixture
def stored(make_inputs: Callable[..., Inputs], tmp_path: Path) -> Inputs:
    """Inputs of one wheel, which the store has."""
    file = tmp_path / "wheel"
    file.write_bytes(b"a wheel")
    wheel = Wheel("a", "1", hash_file(file), "a-1-py3-none-any.whl", 7)
    inputs = replace(make_inputs(), packages=None, wheels=(wheel,), tools=())
    inputs.store.add(file, wheel.sha256, wheel.filename)
    return inputs


def test_nothing_is_fetched_when_the_store_has_everything(stored: Inputs) -> None:
    gather.fetch(stored, offline=True)
    assert [path.read_bytes() for path in stored.files] == [b"a wheel"]


def test_an_altered_file_in_the_store_is_named_removed_and_missing(
    stored: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = stored.files
    path.write_bytes(b"altered")
    with pytest.raises(Refusal, match=r"lacks a-1-py3-none-any\.whl"):
        gather.fetch(stored, offline=True)
    assert "the store's copy of a-1-py3-none-any.whl was altered" in capsys.readouterr().err
    assert not path.exists()


def test_every_kind_of_input_that_is_missing_is_named(
    make_inputs: Callable[..., Inputs], image: CloudImage
) -> None:
    inputs = make_inputs()
    installer = anaconda.read_installer("anaconda")
    of_packages = replace(inputs, wheels=(), installer=installer)
    missing = [item.name for kind in gather.kinds(of_packages) for item in kind.missing()]
    tool = inputs.tools[0].filename
    assert missing == ["bash=5.1", "linux-image-virtual=5.15", tool, installer.file]
    of_image = replace(inputs, wheels=(), packages=None, cloud_image=image)
    missing = [item.name for kind in gather.kinds(of_image) for item in kind.missing()]
    assert missing == ["image.img", tool]


def test_a_cloud_image_is_fetched_with_its_keyring(
    make_inputs: Callable[..., Inputs], image: CloudImage, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = replace(make_inputs(), packages=None, cloud_image=image, wheels=(), tools=())
    gather.fetch(inputs, offline=False)
    assert "Fetching image.img" in capsys.readouterr().out
    (path,) = inputs.files
    assert path.read_bytes() == IMAGE_CONTENT
    gather.fetch(inputs, offline=True)


def choose_python(distribution: str, checkout: Checkout) -> None:
    """Record a distribution in the checkout, as an earlier build with --python does."""
    anaconda.decide(distribution, has=lambda _: False, checkout=checkout)


def test_a_cloud_image_needs_no_apt_packages(own_checkout: Checkout) -> None:
    choose_python("system", own_checkout)
    definition = Definition(base="cloud-image")
    gathered = gather.gather(definition, Freshness(offline=True), checkout=own_checkout)
    assert (gathered.packages, gathered.apt_packages) == (None, ())
    assert gathered.cloud_image == cloud_image.pinned("ubuntu-22.04")
    assert gathered.wheels


def test_a_cloud_image_without_a_pin_is_refused(own_checkout: Checkout) -> None:
    definition = Definition(os="debian-12", base="cloud-image")
    with pytest.raises(Failure, match="debian-12 has no pinned cloud image"):
        gather.gather(definition, Freshness(), checkout=own_checkout)


def test_lists_and_pins_are_read_from_the_given_checkout(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "other")
    shutil.copytree(HERE.locks, checkout.locks)
    for name in ("image-3.10.txt", "tools.txt"):
        (checkout.locks / name).write_text(WHEEL.line + "\n")
    save(resolution(0))
    definition = Definition(python="system")
    gathered = gather.gather(definition, Freshness(offline=True), checkout=checkout)
    assert (gathered.wheels, gathered.tools) == ((WHEEL,), (WHEEL,))
    assert anaconda.recorded(checkout) == gathered.decision


def test_a_disk_too_small_for_anaconda_is_refused_also_when_auto_chose_it(
    own_checkout: Checkout,
) -> None:
    save(resolution(0))
    choose_python("anaconda", own_checkout)
    with pytest.raises(Refusal, match="disk_mib: 4096 MiB is too small for Anaconda"):
        gather.gather(Definition(disk_mib=4096), Freshness(), checkout=own_checkout)


def test_a_download_that_does_not_fit_does_not_begin(
    make_inputs: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    big = replace(WHEEL, size_bytes=300 << 20)
    inputs = replace(make_inputs(), packages=None, wheels=(big,), tools=())
    monkeypatch.setattr(space, "free_mib", lambda _: 500)
    monkeypatch.setattr(WheelFiles, "fetch", lambda *_: pytest.fail("a download began"))
    with pytest.raises(DiskFull) as full:
        gather.fetch(inputs, offline=False)
    needed = 2 * 300 + space.RESERVE_MIB  # pip copies the files
    assert full.value.what == (
        f"fetching 1 wheels, 315 MB: the disk is full: {inputs.store.root} has 500 MiB for it, "
        f"{needed} MiB would be needed"
    )


def test_a_disk_that_fills_up_during_a_download_is_named(
    make_inputs: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # of a write: it names no file

    inputs = replace(make_inputs(), packages=None, wheels=(WHEEL,), tools=())
    monkeypatch.setattr(WheelFiles, "fetch", fetch)
    with pytest.raises(DiskFull, match=str(inputs.store.root)):
        gather.fetch(inputs, offline=False)
