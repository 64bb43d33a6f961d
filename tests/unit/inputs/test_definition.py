"""definition: image.yaml is typed, and all its faults are reported at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlflow_image.errors import Refusal, Refusals
from mlflow_image.inputs import definition
from mlflow_image.inputs.definition import Definition
from mlflow_image.paths import Checkout

CASES = sorted((Path(__file__).parent / "definition_cases").iterdir())


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        file = tmp_path / "image.yaml"
        file.write_text(text)
        return file

    return write


def test_the_schema_is_valid_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(definition.schema())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_fault_is_reported_with_its_line_path_and_remedy(case: Path) -> None:
    expected = (case / "faults.txt").read_text().splitlines()
    with pytest.raises(Refusals) as caught:
        definition.read(case / "image.yaml")
    assert caught.value.faults == expected
    assert caught.value.exit_code == 2
    assert str(case / "image.yaml") in caught.value.what


def test_the_default_file_contains_the_defaults() -> None:
    assert definition.read() == Definition()


def test_the_default_file_is_the_checkout_s(tmp_path: Path) -> None:
    (tmp_path / "image.yaml").write_text("name: mine\n")
    assert definition.read(checkout=Checkout(tmp_path)) == Definition("mine")


def test_an_omitted_key_has_its_default(write: Any) -> None:
    read = definition.read(write("os: debian-12\napt_packages: [vim]\n"))
    assert read == Definition(os="debian-12", apt_packages=("vim",))


@pytest.mark.parametrize("text", ["", "# os: debian-12\n", "---\n"])
def test_a_file_without_keys_means_the_defaults(write: Any, text: str) -> None:
    assert definition.read(write(text)) == Definition()
    assert definition.read(write(text), os="debian-12") == Definition(os="debian-12")


def test_a_written_definition_reads_back_the_same(write: Any) -> None:
    whole = Definition("mine", "debian-12", "packages", 20000, "anaconda", "server", ("vim", "jq"))
    for keep in (True, False):
        whole = replace(whole, keep_distribution=keep)
        assert definition.read(write(json.dumps(whole.as_data()))) == whole


def test_the_command_line_overrides_the_file(write: Any) -> None:
    file = write("os: debian-12\npackages: full\npython: {distribution: system}\n")
    read = definition.read(file, os="ubuntu-24.04", python="anaconda", packages="server")
    assert (read.os, read.python, read.packages) == ("ubuntu-24.04", "anaconda", "server")


def test_the_command_line_s_python_leaves_the_other_keys_of_its_block(write: Any) -> None:
    file = write("python: {distribution: system, keep_distribution: false}\n")
    read = definition.read(file, python="miniforge")
    assert (read.python, read.keep_distribution) == ("miniforge", False)


def test_unknown_values_of_the_command_line_are_refused_all_at_once() -> None:
    with pytest.raises(Refusals) as caught:
        definition.read(os="ubuntu-20.04", python="conda", packages="all")
    assert caught.value.faults == [
        "--os ubuntu-20.04: unknown; one of ubuntu-22.04, ubuntu-24.04, debian-12",
        "--python conda: unknown; one of auto, anaconda, miniforge, system",
        "--packages all: unknown; one of full, server",
    ]


def test_the_command_line_cannot_contradict_the_file(write: Any) -> None:
    file = write("name: small\ndisk_mib: 4096\n")
    with pytest.raises(Refusals) as caught:
        definition.read(file, python="anaconda")
    assert [fault.split(";")[0] for fault in caught.value.faults] == [
        "image.yaml:2: disk_mib: 4096 MiB is too small for Anaconda"
    ]


def test_the_command_line_can_resolve_a_contradiction_in_the_file(write: Any) -> None:
    file = write("disk_mib: 4096\npython: {distribution: anaconda}\n")
    assert definition.read(file, python="system").disk_mib == 4096


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "bytes"])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"name: \xff\n")
    with pytest.raises(Refusal, match=f"{tmp_path / name} cannot be read: ") as caught:
        definition.read(tmp_path / name)
    assert "--definition" in caught.value.remedy


@pytest.mark.parametrize(
    ("distribution", "kept", "not_kept"),
    [("system", 4096, 4096), ("anaconda", 12288, 5120), ("miniforge", 5120, 5120)],
)
def test_an_automatic_disk_is_large_enough_for_what_stays(
    distribution: str, kept: int, not_kept: int
) -> None:
    assert Definition().disk_size_mib(distribution) == kept
    assert Definition(keep_distribution=False).disk_size_mib(distribution) == not_kept
    assert Definition(disk_mib=5000).disk_size_mib(distribution) == 5000


def test_a_smaller_disk_is_enough_when_anaconda_does_not_stay(write: Any) -> None:
    file = write("disk_mib: 6144\npython: {distribution: anaconda, keep_distribution: false}\n")
    assert definition.read(file).disk_mib == 6144


def test_faults_of_command_line_keys_and_combinations_are_reported_at_once(
    tmp_path: Path,
) -> None:
    file = tmp_path / "image.yaml"
    file.write_text("nam: x\nos: debian-12\nbase: cloud-image\n")
    with pytest.raises(Refusals) as caught:
        definition.read(file, python="conda")
    faults = caught.value.faults
    assert len(faults) == 3
    assert faults[0].startswith("--python conda: unknown; one of ")
    assert faults[1].startswith("image.yaml:1: nam: ")
    assert faults[2].startswith("image.yaml:3: base: debian-12 has no pinned cloud image")
