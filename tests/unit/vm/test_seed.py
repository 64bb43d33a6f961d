"""The seed: unchanged user-data, our key in the meta-data, private files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.vm import seed

USER_DATA = b"#cloud-config\r\npassword: \xc3\xa9 \t\n\n\n"


def test_user_data_is_unchanged_in_the_seed(tmp_path: Path) -> None:
    iso = seed.write_iso(tmp_path, USER_DATA, "{}")
    out = tmp_path / "user-data"
    argv = ["xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/user-data", out]
    if shutil.which("xorriso"):
        subprocess.run(argv, check=True, capture_output=True)
        assert out.read_bytes() == USER_DATA
    assert b"cidata" in iso.read_bytes()[32768 : 32768 + 2048]


def test_only_the_owner_may_read_the_seed(tmp_path: Path) -> None:
    iso = seed.write_iso(tmp_path, USER_DATA, "{}")
    assert iso.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "seed").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "seed" / "user-data").stat().st_mode & 0o777 == 0o600


def test_the_vms_key_is_in_the_meta_data(tmp_path: Path) -> None:
    public = seed.make_key(tmp_path)
    meta = json.loads(seed.meta_data("left", public))
    assert public.startswith("ssh-ed25519 ")
    assert meta["public-keys"] == [public]
    assert meta["local-hostname"] == "left"
    assert (tmp_path / seed.KEY_NAME).stat().st_mode & 0o777 == 0o600


def test_every_vm_has_its_own_instance_id() -> None:
    one, other = (json.loads(seed.meta_data("x", "k"))["instance-id"] for _ in range(2))
    assert one != other


def test_a_missing_iso_tool_is_reported_with_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="xorriso") as failure:
        seed.write_iso(tmp_path, b"", "")
    assert "apt install" in failure.value.remedy
