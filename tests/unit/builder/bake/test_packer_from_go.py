"""Packer from Go modules: what is pinned, what is refused, and that it is built only once."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image import space
from mlflow_image.builder.bake import packer_from_go
from mlflow_image.builder.bake.packer_from_go import KNOWN, RECIPES
from mlflow_image.errors import Failure, Refusal

Program = Callable[[str, str], Path]

#: A stand-in for Packer that prints its version and stores the plugin that it is to install.
FAKE_PACKER = """\
case "$1 $2" in
  'version ') echo "Packer v1.11.2" ;;
  'plugins install') cp "$4" "$PACKER_PLUGIN_PATH/packer-plugin-qemu_v1.0.9_x" ;;
  'plugins installed') find $PACKER_PLUGIN_PATH -type f ;;
esac
"""


def fake_go(program: Program, tmp_path: Path, version: str = "go1.26.8", build: str = "") -> Path:
    """A stand-in for go that writes a small program in each build and records its builds."""
    (tmp_path / "fake-packer").write_text(f"#!/bin/sh\n{FAKE_PACKER}")
    copy = f'cp {tmp_path}/fake-packer "$out"; chmod 755 "$out"; echo x >> {tmp_path}/builds'
    program(
        "go",
        f'if [ "$1" = version ]; then echo "go version {version} linux/amd64"; exit 0; fi\n'
        f'while [ "$1" != -o ]; do shift; done; out=$2\n{build or copy}',
    )
    return tmp_path / "builds"


def test_each_recipe_pins_the_version_in_its_name() -> None:
    for recipe in KNOWN.values():
        packer, plugin = recipe.folders
        assert f"hashicorp/packer v{recipe.packer}\n" in (packer / "go.mod").read_text()
        text = (plugin / "go.mod").read_text()
        assert f"hashicorp/packer-plugin-qemu v{recipe.plugin}\n" in text
        for folder in (packer, plugin):
            sums = (folder / "go.sum").read_text()
            assert re.search(r"hashicorp/packer(-plugin-qemu)? v\S+ h1:", sums)


def test_recipes_contain_no_server_addresses() -> None:
    files = [file for file in RECIPES.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if re.search(r"https?:|GOPROXY", file.read_text())]


def test_packer_is_built_only_once(program: Program, tmp_path: Path) -> None:
    builds = fake_go(program, tmp_path)
    first = packer_from_go.ensure()
    assert builds.read_text().split() == ["x", "x"]
    assert first.binary.is_file()
    assert [file.name for file in first.plugin_dir.rglob("*_x")] == ["packer-plugin-qemu_v1.0.9_x"]
    assert packer_from_go.ensure() == first
    assert builds.read_text().split() == ["x", "x"]


def test_a_changed_recipe_is_built_again(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = fake_go(program, tmp_path)
    shutil.copytree(RECIPES, tmp_path / "recipes")
    monkeypatch.setattr(packer_from_go, "RECIPES", tmp_path / "recipes")
    first = packer_from_go.ensure()
    with (tmp_path / "recipes" / "packer-1.11.2" / "go.sum").open("a") as file:
        file.write("one more module\n")
    assert packer_from_go.ensure() != first
    assert len(builds.read_text().split()) == 4


def test_a_failed_build_leaves_no_programs(program: Program, tmp_path: Path) -> None:
    fake_go(program, tmp_path, build='echo "verifying module: checksum mismatch" >&2; exit 1')
    with pytest.raises(Failure, match="go build") as failure:
        packer_from_go.ensure()
    assert "checksum mismatch" in failure.value.evidence
    left = [path.name for path in (tmp_path / "cache" / "packer").iterdir() if path.is_dir()]
    assert [name for name in left if name != "go"] == []


def test_a_build_of_another_version_is_not_kept(program: Program, tmp_path: Path) -> None:
    other = f'printf "#!/bin/sh\\necho Packer v1.12.0\\n" > "$out"; chmod 755 "$out"; : {tmp_path}'
    fake_go(program, tmp_path, build=other)
    with pytest.raises(Failure, match="do not report Packer"):
        packer_from_go.ensure()
    assert not list((tmp_path / "cache" / "packer").glob("1.11.2-*/packer"))


def test_a_missing_go_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refusal, match="go is not on this host's PATH") as refusal:
        packer_from_go.ensure()
    assert "1.21" in refusal.value.remedy


@pytest.mark.parametrize("version", ["go1.19.8", "go1.20.14", "devel"])
def test_a_go_that_is_too_old_is_refused(program: Program, tmp_path: Path, version: str) -> None:
    fake_go(program, tmp_path, version)
    with pytest.raises(Refusal, match="cannot be built with this Go"):
        packer_from_go.ensure()


def test_too_little_disk_is_refused_with_numbers(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(program, tmp_path)
    monkeypatch.setattr(space, "free_mib", lambda _: 1000)
    with pytest.raises(Refusal, match=r"3800 MiB are needed .* 1000 MiB are free"):
        packer_from_go.ensure()


def test_an_unknown_version_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match=r"9\.9\.9") as refusal:
        packer_from_go.ensure("9.9.9")
    assert "1.11.2" in refusal.value.remedy
