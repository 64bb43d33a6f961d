"""A VM's user-data: refused with all faults and their lines, or passed on unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.errors import Refusal, Refusals
from mlflow_image.images.find import Image
from mlflow_image.server import user_data
from mlflow_image.server.user_data import UserData
from mlflow_settings import settings, userdata

GOOD = "schema_version: 1\nserver:\n  port: 9000\n"
BAD = "schema_version: 1\nserver:\n  port: 99999\n  wokers: 2\n"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    schema = tmp_path / "settings-schema.json"
    schema.write_text(json.dumps(settings.own_schema()))
    return Image("an-image", tmp_path, tmp_path / "disk.qcow2", schema)


def written(tmp_path: Path, name: str, content: bytes | str) -> Path:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_user_data_is_passed_on_unchanged(tmp_path: Path, image: Image) -> None:
    raw = userdata.wrap(GOOD) + b"# a comment \t\r\n"
    data = user_data.from_user_data(written(tmp_path, "u.yaml", raw), image)
    assert data.raw == raw
    assert data.guest_port == 9000
    assert data.warnings == ()


def test_faults_are_reported_with_their_lines_in_the_user_data(
    tmp_path: Path, image: Image
) -> None:
    raw = userdata.wrap(BAD)
    file = written(tmp_path, "u.yaml", raw)
    with pytest.raises(Refusals) as refusal:
        user_data.from_user_data(file, image)
    lines = raw.decode().splitlines()
    assert len(refusal.value.faults) == 2
    for fault, word in zip(refusal.value.faults, ("port", "wokers"), strict=True):
        line = int(fault.split(":")[1])
        assert word in fault
        assert word in lines[line - 1]


def test_faults_of_the_user_data_and_of_the_settings_are_reported_together(
    tmp_path: Path, image: Image
) -> None:
    raw = userdata.wrap(BAD).replace(b'    permissions: "0600"\n', b"")
    with pytest.raises(Refusals) as refusal:
        user_data.from_user_data(written(tmp_path, "u.yaml", raw), image)
    found = [
        next(w for w in ("permissions", "port", "wokers") if w in f) for f in refusal.value.faults
    ]
    assert found == ["permissions", "port", "wokers"]


def test_a_settings_file_becomes_user_data(tmp_path: Path, image: Image) -> None:
    data = user_data.from_settings(written(tmp_path, "s.yaml", GOOD), image)
    assert userdata.read(data.raw, "made").settings == GOOD
    assert data.guest_port == 9000


def test_bad_settings_are_refused_with_every_fault(tmp_path: Path, image: Image) -> None:
    with pytest.raises(Refusals) as refusal:
        user_data.from_settings(written(tmp_path, "s.yaml", BAD), image)
    assert [fault.split(":")[1] for fault in refusal.value.faults] == ["3", "4"]


def test_the_images_own_schema_decides(tmp_path: Path, image: Image) -> None:
    assert image.schema is not None
    schema = json.loads(image.schema.read_text())
    schema["properties"]["server"]["properties"]["port"] = {"const": 7000}
    image.schema.write_text(json.dumps(schema))
    with pytest.raises(Refusals, match="port"):
        user_data.from_settings(written(tmp_path, "s.yaml", GOOD), image)


def test_user_data_that_is_not_cloud_config_is_refused(tmp_path: Path, image: Image) -> None:
    with pytest.raises(Refusals, match="cloud-config"):
        user_data.from_user_data(written(tmp_path, "u", "hello\n"), image)


def test_user_data_without_settings_or_of_an_unchecked_kind_gets_a_warning(
    tmp_path: Path, image: Image
) -> None:
    without = user_data.from_user_data(written(tmp_path, "a", "#cloud-config\n{}\n"), image)
    script = user_data.from_user_data(written(tmp_path, "b", "#!/bin/sh\n"), image)
    assert "from inside the VM" in without.warnings[0]
    assert "not checked" in script.warnings[0]


@pytest.mark.parametrize("read", [user_data.from_user_data, user_data.from_settings])
def test_files_that_cannot_be_read_are_refused(
    read: Callable[[Path, Image], UserData], tmp_path: Path, image: Image
) -> None:
    with pytest.raises(Refusal, match="nowhere"):
        read(tmp_path / "nowhere", image)
    with pytest.raises(Refusal, match="UTF-8"):
        read(written(tmp_path, "latin", b"#cloud-config\n\xe9\n"), image)
