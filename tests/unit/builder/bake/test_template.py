"""The Packer template: golden files for an old and a new Packer, and values quoted for HCL.

MLFLOW_IMAGE_REWRITE_GOLDEN=1 rewrites the golden files; read the difference before you commit.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
import yaml

from mlflow_image import command
from mlflow_image.builder.bake import packer, template
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.paths import HERE
from mlflow_image.vm import seed
from tests.unit.samples import BUILD

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str, text: str) -> str:
    """The golden file's text; rewritten first if the environment requests it."""
    file = GOLDEN / name
    if os.environ.get("MLFLOW_IMAGE_REWRITE_GOLDEN"):
        file.write_text(text)
    return file.read_text()


@pytest.mark.parametrize("version", [(1, 6, 6), (1, 11, 2)])
def test_the_template_matches_the_golden_file(version: tuple[int, int, int]) -> None:
    plugins = Packer(Path("packer"), version, "a test").plugins
    text = template.image_template(BUILD, plugins)
    assert text == golden(f"packer-{'.'.join(map(str, version))}.pkr.hcl", text)


def test_only_a_packer_with_plugins_gets_required_plugins() -> None:
    assert "required_plugins" not in template.image_template(BUILD)
    with_plugin = template.image_template(BUILD, (packer.QEMU_PLUGIN,))
    assert 'source  = "github.com/hashicorp/qemu"' in with_plugin
    assert with_plugin.endswith(template.image_template(BUILD).split("\n", 1)[1])


def test_a_rendered_template_contains_no_jinja_syntax() -> None:
    text = template.image_template(BUILD, (packer.QEMU_PLUGIN,))
    assert not any(mark in text for mark in ("[[", "]]", "[%", "%]", "[#"))
    assert "{{ .SSHHostPort }}" in text


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("plain", '"plain"'),
        ('a "quoted" word', r'"a \"quoted\" word"'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines", r'"two\nlines"'),
        ("${path.root}", '"$${path.root}"'),
        ("%{ if true }", '"%%{ if true }"'),
        ("{{ .Vars }}", '"{{ .Vars }}"'),
        ("größer", '"größer"'),
        (("one", "${two}"), '["one", "$${two}"]'),
    ],
)
def test_values_are_quoted_for_hcl(value: str | tuple[str, ...], literal: str) -> None:
    assert template.hcl(value) == literal


def test_the_user_data_of_the_build_vm_is_cloud_config_with_one_key() -> None:
    text = template.build_seed("ssh-ed25519 AAAA mlflow-image")
    assert text.startswith("#cloud-config\n")
    seed = yaml.safe_load(text)
    assert seed["users"] == [
        {"name": "root", "ssh_authorized_keys": ["ssh-ed25519 AAAA mlflow-image"]}
    ]


def test_snapd_does_not_start_in_the_build_vm() -> None:
    seed = yaml.safe_load(template.build_seed("ssh-ed25519 AAAA key"))
    assert seed["cloud_init_modules"][0] == "bootcmd", (
        "bootcmd runs before sysinit.target, which snapd waits for"
    )
    assert [command.split()[:3] for command in seed["bootcmd"]] == [
        ["systemctl", "mask", "--runtime"]
    ]


def test_the_file_system_grows_with_its_partition() -> None:
    seed = yaml.safe_load(template.build_seed("ssh-ed25519 AAAA key"))
    modules = seed["cloud_init_modules"]
    assert modules[modules.index("growpart") + 1] == "resizefs"


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    unknown = template.environment(HERE.root / "packer").from_string("[[ unknown ]]")
    with pytest.raises(jinja2.UndefinedError):
        unknown.render()


@pytest.mark.skipif(not shutil.which("packer"), reason="no packer on PATH")
@pytest.mark.budget(5)
def test_packer_itself_accepts_the_template(tmp_path: Path) -> None:
    found = packer.find()
    seed.make_key(tmp_path)
    for name in ("overlay", "10.sh", "20.sh"):
        (tmp_path / name).touch()
    plan = replace(
        BUILD,
        key=str(tmp_path / seed.KEY_NAME),
        overlay=str(tmp_path / "overlay"),
        scripts=(str(tmp_path / "10.sh"), str(tmp_path / "20.sh")),
    )
    file = tmp_path / "image.pkr.hcl"
    file.write_text(template.image_template(plan, found.plugins))
    environment = found.environment(tmp_path)
    command.run([found.binary, "validate", file], env=environment, cwd=tmp_path)
    file.write_text(file.read_text().replace("iso_url", "iso_ulr"))
    done = command.run([found.binary, "validate", file], env=environment, check=False)
    assert done.returncode != 0, "validate must find faults, or its success above means nothing"
