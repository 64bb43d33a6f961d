"""A VM's user-data: refused with all faults and their lines, or passed on unchanged.

What cloud-init itself makes of user-data is in tests/system/test_20_user_data.py; here a reading
is given.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.errors import Failure, Refusal, Refusals
from mlflow_image.images import find
from mlflow_image.images.find import Image
from mlflow_image.paths import Checkout
from mlflow_image.server import cloud_init, user_data
from mlflow_image.server.cloud_init import Entry, Part, Reading, Write
from mlflow_image.server.user_data import UserData
from mlflow_settings import settings, userdata

GOOD = "schema_version: 1\nserver:\n  port: 9000\n"
BAD = "schema_version: 1\nserver:\n  port: 99999\n  wokers: 2\n"
Give = Callable[[Reading], None]


def reading(text: str) -> Reading:
    """What cloud-init makes of `userdata.wrap(text)`."""
    return Reading(
        parts=(Part("part-001", userdata.wrap(text).decode(), jinja=False, broken=False),),
        entries=(Entry(0, 0, encoding="", permissions=True, text=True, url=False),),
        writes=(Write(0, userdata.SETTINGS_PATH, 0o600, False, False, text.encode()),),
        errors={},
        unread=(),
        missing=(),
        scripts=False,
        failure="",
        ssh_pwauth=False,
        missing_modules=False,
        commands=(),
        schema=(),
        messages=(),
    )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    schema = tmp_path / "settings-schema.json"
    schema.write_text(json.dumps(settings.own_schema()))
    (tmp_path / "cloud-init.zip").touch()
    return Image("an-image", tmp_path, tmp_path / "disk.qcow2", schema)


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Sets what cloud-init's code finds."""

    def give(found: Reading) -> None:
        monkeypatch.setattr(cloud_init, "archive_of", lambda image: image.cloud_init)
        monkeypatch.setattr(cloud_init, "read", lambda *_: found)

    return give


def written(tmp_path: Path, name: str, content: bytes | str) -> Path:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_user_data_is_passed_on_unchanged(tmp_path: Path, image: Image, give: Give) -> None:
    raw = userdata.wrap(GOOD) + b"# a comment \t\r\n"
    give(reading(GOOD))
    data = user_data.from_user_data(written(tmp_path, "u.yaml", raw), image)
    assert data == UserData(raw, 9000, settings=GOOD)


def test_faults_of_user_data_and_settings_come_together_with_their_lines(
    tmp_path: Path, image: Image, give: Give
) -> None:
    raw = userdata.wrap(BAD)
    found = reading(BAD)
    give(replace(found, writes=(replace(found.writes[0], mode=0o644),)))
    with pytest.raises(Refusals) as refusal:
        user_data.from_user_data(written(tmp_path, "u.yaml", raw), image)
    lines = raw.decode().splitlines()
    assert len(refusal.value.faults) == 3
    for fault, word in zip(refusal.value.faults, ("permissions", "port", "wokers"), strict=True):
        assert word in fault
        assert word in lines[int(fault.split(":")[1]) - 1]


def test_settings_that_a_template_a_url_or_a_command_may_change_are_not_compared_later(
    tmp_path: Path, image: Image, give: Give
) -> None:
    found = reading(GOOD)
    file = written(tmp_path, "u.yaml", userdata.wrap(GOOD))
    for changed in (
        replace(found, parts=(replace(found.parts[0], jinja=True),)),
        replace(found, unread=("it includes other URLs",)),
        replace(found, commands=("runcmd",)),
    ):
        give(changed)
        data = user_data.from_user_data(file, image)
        assert (data.guest_port, data.settings) == (9000, None)


def test_an_entry_that_fails_after_the_settings_is_a_warning_and_before_them_a_fault(
    tmp_path: Path, image: Image, give: Give
) -> None:
    found, file = reading(GOOD), written(tmp_path, "u.yaml", userdata.wrap(GOOD))
    entries = (found.entries[0], replace(found.entries[0], position=1))
    give(replace(found, errors={1: "Unknown user or group: 'ubuntu'"}, entries=entries))
    assert "defer: true" in user_data.from_user_data(file, image).warnings[0]
    give(replace(found, errors={0: "Unknown user or group: 'ubuntu'"}))
    with pytest.raises(Refusals, match=r"u.yaml:3: .*defer: true"):
        user_data.from_user_data(file, image)


def test_without_any_cloud_init_the_user_data_is_not_checked(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_init, "archive_of", lambda _: None)
    data = user_data.from_user_data(written(tmp_path, "u", "#cloud-config\n"), image)
    assert "not checked" in data.warnings[0]


def test_only_the_cloud_init_of_an_image_in_dist_runs_on_this_host(
    tmp_path: Path, image: Image
) -> None:
    own = tmp_path / "dist" / "mlflow-ubuntu-22.04-x86_64-aaaa11112222"
    own.mkdir(parents=True)
    for name in ("disk.qcow2", "settings-schema.json", "cloud-init.zip"):
        (own / name).touch()
    checkout = Checkout(tmp_path)
    linked = tmp_path / "dist" / "linked"
    linked.symlink_to(image.directory)
    foreign = (image, replace(image, directory=linked), replace(image, schema=None))
    assert [cloud_init.archive_of(one, checkout) for one in foreign] == [None] * 3
    assert cloud_init.archive_of(find.in_folder(own), checkout) == own / "cloud-init.zip"
    (tmp_path / "dist" / "latest").symlink_to(own.name)
    archives = {cloud_init.archive_of(one, checkout) for one in foreign}
    assert archives == {own / "cloud-init.zip"}


def test_code_that_does_not_run_ends_with_its_error(tmp_path: Path) -> None:
    empty = written(tmp_path, "empty.zip", b"PK\x05\x06" + bytes(18))
    with pytest.raises(Failure, match="could not read") as failure:
        cloud_init.read(b"", empty, "host")
    assert "cloudinit" in failure.value.evidence


def test_code_that_does_not_end_is_ended_and_leaves_nothing_of_the_user_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "cloud-init.zip"
    with zipfile.ZipFile(endless, "w") as file:
        file.writestr("lib/cloudinit/__init__.py", "")
        file.writestr("lib/cloudinit/handlers/__init__.py", "import time; time.sleep(60)")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(cloud_init, "TIMEOUT_S", 0.6)
    with pytest.raises(Failure, match=r"had not read the user-data after 1 s, so it was ended"):
        cloud_init.read(b"", endless, "host")
    assert list(scratch.iterdir()) == []


def test_a_settings_file_becomes_user_data(tmp_path: Path, image: Image) -> None:
    data = user_data.from_settings(written(tmp_path, "s.yaml", GOOD), image)
    assert userdata.unwrap(data.raw) == data.settings == GOOD
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


@pytest.mark.parametrize("read", [user_data.from_user_data, user_data.from_settings])
def test_files_that_cannot_be_read_are_refused(
    read: Callable[[Path, Image], UserData], tmp_path: Path, image: Image
) -> None:
    with pytest.raises(Refusal, match="nowhere"):
        read(tmp_path / "nowhere", image)


def test_settings_that_are_not_utf_8_are_refused(tmp_path: Path, image: Image) -> None:
    with pytest.raises(Refusal, match="UTF-8"):
        user_data.from_settings(written(tmp_path, "latin", b"a: \xe9\n"), image)
