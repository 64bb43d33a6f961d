"""Tars: the table of modes is parsed, and invalid rows are refused with their line.

test_payload.py tests the tars of the checkout's own folders.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from mlflow_image.builder.disk import tarball
from mlflow_image.builder.disk.tarball import Mode
from mlflow_image.errors import Failure


@pytest.mark.parametrize("row", ["0600 root /etc/x", "rw root root /etc/x", "0600 a b c d"])
def test_a_malformed_row_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    table = tmp_path / "image_files.modes"
    table.write_text(f"# MODE OWNER GROUP PATH\n{row}\n")
    with pytest.raises(Failure, match=r"image_files\.modes:2: expected MODE OWNER GROUP PATH"):
        tarball.read_modes(table)


def test_comments_and_empty_lines_are_ignored(tmp_path: Path) -> None:
    table = tmp_path / "modes"
    table.write_text("# a comment\n\n0755 root root /usr/bin/x  # why\n")
    assert tarball.read_modes(table) == {"/usr/bin/x": Mode(0o755, "root", "root")}


def test_without_a_table_everything_belongs_to_root_and_has_default_modes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "file").write_text("content")
    (tree / "etc" / "file").chmod(0o751)
    (tree / "etc" / "link").symlink_to("file")
    with tarfile.open(tarball.write(tree, tmp_path / "tree.tar")) as tar:
        found = {entry.name: (oct(entry.mode), entry.uid, entry.linkname) for entry in tar}
    assert found == {
        "./etc": ("0o755", 0, ""),
        "./etc/file": ("0o644", 0, ""),
        "./etc/link": ("0o777", 0, "file"),
    }
