"""The namespace: the caller's range of ids; test_rootless.py tests the program as a whole."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mlflow_image.host import namespace

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("owner", [ME, str(os.getuid())])
def test_the_range_is_found_by_name_or_number(tmp_path: Path, owner: str) -> None:
    file = tmp_path / "subuid"
    file.write_text(f"somebody:1:2\n{owner}:100000:65536\n{owner}:900000:10\n")
    assert namespace.subordinate_range(file) == (100000, 65536)


def test_a_missing_range_is_reported_with_file_and_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "subuid"
    file.write_text("somebody:1:2\n")
    with pytest.raises(SystemExit) as caught:
        namespace.subordinate_range(file)
    assert caught.value.code == 125
    assert capsys.readouterr().err == f"{file} has no range for {ME}\n"
