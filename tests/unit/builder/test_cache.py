"""The cache stays bounded, and nothing is removed that a VM or a build uses."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_image.builder import cache as bounded
from mlflow_image.builder import layers
from mlflow_image.builder.layers import Layer
from mlflow_image.builder.place import KEPT_NAME, scratch
from mlflow_image.host import processes
from mlflow_image.paths import Checkout
from tests.unit.samples import gone

DAY_S = 24 * 3600
SIZE_BYTES = 1_000_000


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))
    return path


def stack(days: float, name: str = "one") -> list[Layer]:
    """A base, a layer on it and a sealed disk, of 1 MB each, last used some days ago."""
    base = Layer("base", "", {"os": name})
    python = Layer("python", "", {"parent": base.key})
    sealed = Layer("sealed", "", {"parent": python.key})
    for layer in (base, python, sealed):
        layer.directory.mkdir(parents=True)
        aged_disk = layer.directory / "disk.qcow2"
        aged_disk.write_bytes(b"x" * SIZE_BYTES)
        aged(aged_disk, days)
        record = layer.directory / layers.RECORD_NAME
        record.write_text(json.dumps(layer.record(1, [])))
        aged(record, days)
    return [base, python, sealed]


def there(of: list[Layer]) -> list[bool]:
    return [layer.directory.exists() for layer in of]


def stored(cache: Path, name: str, days: float) -> Path:
    path = cache / "store" / "sha256" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * SIZE_BYTES)
    return aged(path, days)


def test_young_entries_within_the_limit_are_kept(cache: Path) -> None:
    kept = stack(days=1)
    file = stored(cache, "ab12", days=1)
    assert bounded.bound([]) == []
    assert there(kept) == [True, True, True]
    assert file.exists()


def test_entries_that_were_not_used_for_long_are_removed(cache: Path) -> None:
    old = stack(days=61)
    file = stored(cache, "ab12", days=61)
    young = stack(days=59, name="two")
    removed = {entry.path for entry in bounded.bound([])}
    assert removed == {file, *(layer.directory for layer in old)}
    assert there(old) == [False, False, False]
    assert there(young) == [True, True, True]


def test_over_the_limit_the_least_recently_used_entry_is_removed_first(cache: Path) -> None:
    oldest = stored(cache, "ab12", days=3)
    older = stored(cache, "cd34", days=2)
    newest = stored(cache, "ef56", days=1)
    removed = bounded.bound([], limit_bytes=int(1.5 * SIZE_BYTES))
    assert [entry.path for entry in removed] == [oldest, older]
    assert newest.exists()


def test_a_disk_that_a_vm_uses_is_kept_with_every_layer_below_it(cache: Path) -> None:
    used, unused = stack(days=100), stack(days=100, name="two")
    bounded.bound([used[2].directory / "disk.qcow2"], limit_bytes=0)
    assert there(used) == [True, True, True]
    assert there(unused) == [False, False, False]


def test_a_kept_disk_keeps_the_layers_below_it_and_not_those_above(cache: Path) -> None:
    layers_of_one = stack(days=100)
    bounded.bound([layers_of_one[1].directory / "disk.qcow2"], limit_bytes=0)
    assert there(layers_of_one) == [True, True, False]


def test_a_layer_that_was_claimed_counts_as_used(cache: Path) -> None:
    old = stack(days=100)
    with bounded.claim([old[0].directory / layers.RECORD_NAME]):
        pass
    bounded.bound([])
    assert there(old) == [True, False, False]


def test_files_that_a_running_build_claims_are_never_removed(cache: Path) -> None:
    used, unused = stack(days=1), stack(days=1, name="two")
    files = stored(cache, "ab12", days=1), stored(cache, "cd34", days=1)
    not_yet_there = cache / "store" / "sha256" / "ef" / "ef56"
    with bounded.claim([used[2].directory / layers.RECORD_NAME, files[0], not_yet_there]):
        bounded.bound([], limit_bytes=0, max_age_s=0)
        assert (there(used), there(unused)) == ([True] * 3, [False] * 3)
        assert [file.exists() for file in files] == [True, False]
    bounded.bound([], limit_bytes=0, max_age_s=0)
    assert there(used) == [False] * 3


def test_the_claim_of_a_killed_build_does_not_count(cache: Path) -> None:
    claims = cache / "claims"
    old = stack(days=100)
    paths = [str(old[0].directory / layers.RECORD_NAME)]
    claims.mkdir()
    (claims / f"{os.getpid()}.json").write_text(json.dumps({"started": "long ago", "paths": paths}))
    bounded.bound([])
    assert there(old) == [False] * 3
    assert list(claims.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"started": 1, "paths": 2}'])
def test_a_damaged_claim_is_removed_and_breaks_nothing(cache: Path, text: str) -> None:
    note = cache / "claims" / "4711.json"
    note.parent.mkdir(parents=True)
    note.write_text(text)
    kept = stack(days=1)
    bounded.bound([])
    assert there(kept) == [True] * 3
    assert not note.exists()


def test_a_pid_alone_does_not_keep_a_scratch_folder(cache: Path) -> None:
    """Its number may belong to another program by now: after a reboot pids start again."""
    living, gone_build = (scratch() / f"base-{name}" for name in ("1", "2"))
    for folder in (living, gone_build):
        processes.make_owned_folder(folder)
    note = gone_build / processes.OWNER_NAME
    owner = json.loads(note.read_text())
    note.write_text(json.dumps({**owner, "started": "an earlier boot"}))
    bounded.bound([])
    assert [folder.exists() for folder in (living, gone_build)] == [True, False]


def test_a_folder_of_an_earlier_version_is_removed_only_when_it_is_old(cache: Path) -> None:
    """It names no owner, and its build may still run."""
    young, old = (scratch() / f"base-{name}" for name in ("4711", "4712"))
    for folder, days in ((young, 0.5), (old, 1.5)):
        folder.mkdir(parents=True)
        aged(folder, days)
    bounded.bound([])
    assert (young.exists(), old.exists()) == (True, False)


def test_what_is_not_complete_yet_is_no_entry(cache: Path) -> None:
    """A download, a Packer that is being built: the cache holds them under names with a dot."""
    for name in ("store/sha256/ab/.ab12.99.new", "packer/.1.11.2.99.new", "packer/go"):
        (cache / name).mkdir(parents=True)
    bounded.bound([], limit_bytes=0, max_age_s=0)
    assert bounded.all_entries() == []
    assert (cache / "packer" / "go").exists()


def ended(folder: Path) -> Path:
    """A scratch folder whose build has ended."""
    processes.make_owned_folder(folder)
    note = folder / processes.OWNER_NAME
    note.write_text(json.dumps({**json.loads(note.read_text()), "started": "an earlier boot"}))
    return folder


@contextlib.contextmanager
def build_vm(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A stand-in for the QEMU of a build: its name, and a file of the folder in its arguments."""
    words = ["qemu-system-x86_64", "-c", "read _", f"file={folder}/output/disk.qcow2"]
    with subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE) as vm:
        try:
            yield vm
        finally:
            vm.kill()


def test_the_folder_of_a_vm_kept_for_inspection_is_not_removed(cache: Path) -> None:
    kept, other = (scratch() / f"python-{n}" for n in (7, 8))
    for folder in (kept, other):
        ended(folder)
    (kept / KEPT_NAME).touch()
    with build_vm(kept) as vm:
        bounded.bound([])
        assert (kept.exists(), other.exists(), vm.poll()) == (True, False, None)
    bounded.bound([])
    assert not kept.exists()


def test_the_vm_of_a_killed_build_is_ended_and_named(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = ended(scratch() / "python-7")
    with build_vm(left) as vm:
        bounded.bound([])
        assert gone(vm.pid)
        assert f"ending the build VM that a killed build left (pid {vm.pid})" in (
            capsys.readouterr().out
        )
    assert not left.exists()


def test_an_entry_that_another_command_removes_is_skipped(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(cache, "ab12", days=100)
    young = stored(cache, "cd34", days=1)
    entry_of = bounded.entry_of

    def racing(path: Path) -> bounded.Entry:
        if path.name == "ab12":
            path.unlink()
        return entry_of(path)

    monkeypatch.setattr(bounded, "entry_of", racing)
    assert [entry.path for entry in bounded.all_entries()] == [young]


def test_unfinished_downloads_of_yesterday_and_old_logs_are_removed(
    cache: Path, tmp_path: Path
) -> None:
    checkout = Checkout(tmp_path / "checkout")
    places = {
        cache / "store" / "incoming" / "old": 1.1,
        cache / "store" / "incoming" / "young": 0.5,
        checkout.state / "logs" / "old": 14.1,
        checkout.state / "logs" / "young": 13.0,
        checkout.dist / ".an-image.1234.new": 1.1,
        scratch() / ".base-1.1234.new": 1.1,
    }
    for folder, days in places.items():
        folder.mkdir(parents=True)
        aged(folder, days)
    bounded.bound([], checkout=checkout)
    assert [folder.name for folder in places if folder.exists()] == ["young", "young"]


def test_an_empty_cache_is_accepted() -> None:
    assert bounded.bound([]) == []


def test_programs_in_the_cache_are_removed_when_they_are_not_used(cache: Path) -> None:
    for kind, days in (("native", 70), ("packer", 3)):
        folder = cache / kind / "made"
        folder.mkdir(parents=True)
        (folder / "program").write_bytes(b"x" * SIZE_BYTES)
        aged(folder / "program", days)
    (removed,) = bounded.bound([])
    assert removed.path == cache / "native" / "made"
    assert (cache / "packer" / "made" / "program").exists()
