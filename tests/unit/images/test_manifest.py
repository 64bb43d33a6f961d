"""The manifest: what is written is read back, and invalid files are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import manifest
from mlflow_image.images.manifest import ImageId, Verification
from tests.unit import samples


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    passed = Verification("passed", 49, "49 passed", 98.4, "2026-11-21T00:00:00Z")
    written = samples.manifest(verification=passed)
    manifest.write(tmp_path, written)
    assert manifest.read(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [manifest.MANIFEST_NAME]


def test_a_folder_without_a_manifest_has_none(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda m: m.pop("login"), "'login' is a required property"),
        (lambda m: m["disk"].update(bytes="4"), "disk.bytes: '4' is not of type 'integer'"),
        (lambda m: m.update(image="latest"), "image: 'latest' does not match"),
        (lambda m: m["verification"].update(result="maybe"), "verification.result: 'maybe'"),
        (lambda m: m.update(extra=1), "'extra' was unexpected"),
        (lambda m: m.update(manifest_version=3), "manifest_version: 2 was expected"),
    ],
)
def test_a_damaged_manifest_is_refused_with_file_path_and_value(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], fault: str
) -> None:
    document = samples.manifest().document()
    damage(document)
    (tmp_path / manifest.MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(Refusal) as refused:
        manifest.read(tmp_path)
    assert str(tmp_path / manifest.MANIFEST_NAME) in refused.value.what
    assert fault in refused.value.what
    assert "build the image again" in refused.value.remedy


@pytest.mark.parametrize("text", ["{", "[]", "null", '"text"', ""])
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / manifest.MANIFEST_NAME).write_text(text)
    with pytest.raises(Refusal, match=r"manifest\.json is not a valid manifest"):
        manifest.read(tmp_path)


def test_an_invalid_manifest_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="breaks its schema: login"):
        manifest.write(tmp_path, replace(samples.manifest(), login=""))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("os", "login"), [("ubuntu-22.04", "ubuntu"), ("debian-12", "debian")])
def test_a_manifest_of_the_first_version_gets_the_login_of_its_system(os: str, login: str) -> None:
    document = samples.manifest(ImageId("mlflow", os, "a" * 12)).document()
    del document["login"]
    reason = document.pop("python_reason")
    document["python"]["reason"] = reason
    first = {**document, "manifest_version": 1, "layer_key": "b" * 64}
    found = manifest.parse(first)
    assert (found.login, found.python_reason) == (login, reason)


def test_an_early_image_of_the_first_version_lacks_fields_that_came_later() -> None:
    document = {**samples.manifest().document(), "manifest_version": 1}
    for name in ("login", "python_reason", "settings_schema_version", "built_with", "keys"):
        del document[name]
    del document["python"]["terms"]
    assert manifest.parse(document).login == "ubuntu"


@pytest.mark.parametrize(
    "text",
    [
        "mlflow-ubuntu-22.04-x86_64-0123456789ab",
        "team-b-2-debian-12-x86_64-ffffffffffff",
    ],
)
def test_an_id_is_parsed_and_printed_unchanged(text: str) -> None:
    assert str(ImageId.parse(text)) == text


def test_an_id_consists_of_name_system_architecture_and_the_disks_hash() -> None:
    made = ImageId.of_disk("team-b", "debian-12", "0123456789abcdef")
    assert str(made) == "team-b-debian-12-x86_64-0123456789ab"
    assert ImageId.parse(str(made)) == made


@pytest.mark.parametrize(
    "text", ["latest", "", ".mlflow-ubuntu-22.04-x86_64-0123456789ab.1.new", "mlflow-x86_64-012"]
)
def test_other_names_are_not_ids(text: str) -> None:
    with pytest.raises(ValueError, match="is not an image id"):
        ImageId.parse(text)


def test_an_id_matches_itself_and_a_prefix_of_its_build() -> None:
    image = ImageId("mlflow", "ubuntu-22.04", "0123456789ab")
    assert all(image.matches(text) for text in (str(image), "0123", "0123456789ab"))
    assert not any(image.matches(text) for text in ("", "mlflow", "123", "0123456789abc"))
