"""Jinja2 templates become the text of a Packer template; nothing is run here."""

from __future__ import annotations

import json
from dataclasses import dataclass

import jinja2

from mlflow_image.paths import HERE


@dataclass(frozen=True)
class Plugin:
    """One entry of `required_plugins`, for a Packer that does not carry the builder itself."""

    name: str
    source: str
    version: str


@dataclass(frozen=True)
class Bake:
    """What one Packer run is told: where things are, what QEMU gets, which steps run."""

    vm_name: str
    output: str
    overlay: str
    key: str
    #: Switches of QEMU, each a list of words; they replace Packer's own.
    qemu_args: tuple[tuple[str, ...], ...]
    scripts: tuple[str, ...]
    #: NAME=value for every step; no secrets.
    environment: tuple[str, ...]
    shutdown_command: str
    ssh_timeout: str
    #: Commands that come before the scripts, in one shell.
    mounts: tuple[str, ...]


def hcl(value: str | tuple[str, ...] | list[str]) -> str:
    """A string or list as an HCL literal; `${` and `%{` would start HCL's own templates."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def image_template(bake: Bake, plugins: tuple[Plugin, ...] = ()) -> str:
    """The text of packer/image.pkr.hcl.j2 for one bake."""
    return environment("packer").get_template("image.pkr.hcl.j2").render(bake=bake, plugins=plugins)


def build_seed(public_key: str) -> str:
    """The user-data of a build VM on a vendor's image, with the one key that may log in."""
    return environment("cloud-init").get_template("build.yaml.j2").render(public_key=public_key)


def environment(folder: str) -> jinja2.Environment:
    """Jinja2 for the templates of a folder: [[ ]] and [% %], as {{ }} is Packer's own."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE.root / folder),
        undefined=jinja2.StrictUndefined,
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - HCL and YAML, quoted by the filter
    )
    made.filters["hcl"] = hcl
    return made
