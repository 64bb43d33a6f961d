"""Files are written completely or not at all; no two writers share a temporary name."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mlflow_image import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    files.write(tmp_path / "record.json", "one")
    files.write(tmp_path / "record.json", b"two")
    assert (tmp_path / "record.json").read_text() == "two"
    assert names(tmp_path) == ["record.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "disk.qcow2"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(target) as beside:
        beside.write_text("half")
        raise RuntimeError("the converter failed")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["disk.qcow2"]


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "machine.json"
    target.write_text("old")
    target.chmod(0o644)
    files.write_private(target, "secret")
    assert target.read_text() == "secret"
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_ordinary_file_gets_the_mode_that_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "x", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_writers_at_the_same_time_do_not_share_a_temporary_name(tmp_path: Path) -> None:
    target = tmp_path / "latest.json"
    contents = [str(number) * 200_000 for number in range(8)]

    def write(content: str) -> None:
        for _ in range(5):
            files.write(target, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text() in contents
    assert names(tmp_path) == ["latest.json"]


def test_a_new_folder_appears_with_all_its_contents(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "dist" / "image") as folder:
        (folder / "logs").mkdir()
        (folder / "logs" / "packer.log").write_text("ok")
        assert not (tmp_path / "dist" / "image").exists()
    assert (tmp_path / "dist" / "image" / "logs" / "packer.log").read_text() == "ok"
    assert names(tmp_path / "dist") == ["image"]


def test_an_unfinished_folder_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / "image") as folder:
        (folder / "disk").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    files.link(tmp_path / "latest", "one")
    files.link(tmp_path / "latest", "two")
    assert (tmp_path / "latest").readlink() == Path("two")
    assert names(tmp_path) == ["latest"]


def test_the_hash_is_the_sha256_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.hash_file(tmp_path / "abc").startswith("ba7816bf8f01cfea")
