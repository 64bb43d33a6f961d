"""Free disk space: too little ends the work, and the message has the place and the numbers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image import command, space
from mlflow_image.errors import Failure
from mlflow_image.space import DiskFull, Room

REMEDY = "clean up"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free space of a stand-in disk, in MiB."""
    found = {"mib": 10_000}
    monkeypatch.setattr(space, "free_mib", lambda _: found["mib"])
    return found


def room(folder: Path, needed_mib: int = 0) -> Room:
    return Room("the layer base", folder, needed_mib, REMEDY, scratch=folder)


def test_enough_is_no_shortage_in_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert space.shortage(1, tmp_path / "not" / "there", REMEDY) == ""
    room(tmp_path / "not" / "there", 1).require()


def test_a_shortage_has_its_numbers_and_its_remedy(tmp_path: Path) -> None:
    fault = space.shortage(10**10, tmp_path, REMEDY)
    assert fault.startswith(f"not enough disk: {10**10} MiB are needed in {tmp_path}, ")
    assert fault.endswith(" MiB are free; clean up")


def test_work_that_needs_more_than_is_free_does_not_begin(
    tmp_path: Path, free: dict[str, int]
) -> None:
    with pytest.raises(DiskFull) as full:
        room(tmp_path, 12_000).require()
    assert full.value.what == (
        f"the layer base: the disk is full: {tmp_path} has 10000 MiB for it, "
        f"{12_000 + space.RESERVE_MIB} MiB would be needed"
    )
    assert full.value.remedy == f"free at least {2_000 + space.RESERVE_MIB} MiB there: clean up"


def test_what_the_work_wrote_so_far_counts_as_available(
    tmp_path: Path, free: dict[str, int]
) -> None:
    (tmp_path / "written").write_bytes(b"x" * (3 << 20))
    free["mib"] = 4
    with pytest.raises(DiskFull) as full, room(tmp_path, 100).guarded():
        command.run(["sleep", "60"])
    assert f"{tmp_path} has 7 MiB for it, 228 MiB would be needed" in full.value.what
    assert full.value.remedy == "free at least 221 MiB there: clean up"


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_quota() -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "file")


def a_program_says_so() -> None:
    command.run(["sh", "-c", "echo tar: x: No space left on device >&2; exit 2"])


def a_wrapped_failure() -> None:
    try:
        no_space()
    except OSError as error:
        raise Failure("packing failed") from error


@pytest.mark.parametrize("fail", [no_space, no_quota, a_program_says_so, a_wrapped_failure])
def test_an_error_that_comes_from_a_full_disk_becomes_one_that_says_so(
    tmp_path: Path, fail: Callable[[], None]
) -> None:
    message = "the layer base: the disk is full"
    with pytest.raises(DiskFull, match=message), room(tmp_path, 5).guarded():
        fail()


def test_any_error_while_the_disk_is_full_says_so_and_keeps_its_evidence(
    tmp_path: Path, free: dict[str, int]
) -> None:
    with pytest.raises(DiskFull) as full, room(tmp_path).guarded():
        free["mib"] = 0
        raise Failure("dpkg failed", evidence="subprocess returned error code 2")
    assert full.value.evidence == "subprocess returned error code 2"


def test_the_numbers_survive_an_error_that_is_raised_from_them(
    tmp_path: Path, free: dict[str, int]
) -> None:
    def script() -> None:
        try:
            command.run(["sleep", "60"])
        except Failure as failure:
            raise Failure("the script failed") from failure

    free["mib"] = 4
    with pytest.raises(DiskFull, match="has 4 MiB for it") as full, room(tmp_path, 9).guarded():
        script()
    assert not full.value.evidence


def test_other_errors_stay_as_they_are(tmp_path: Path, free: dict[str, int]) -> None:
    with pytest.raises(Failure, match="no such package"), room(tmp_path).guarded():
        raise Failure("no such package")
    with pytest.raises(FileNotFoundError), room(tmp_path).guarded():
        (tmp_path / "missing").read_text()


def test_a_disk_that_can_hold_no_more_files_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_files", lambda _: False)
    with pytest.raises(DiskFull, match="can hold no more files"):
        room(tmp_path).check()
