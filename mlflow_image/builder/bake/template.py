"""Renders the Jinja2 templates of the Packer template and of the build VM's user-data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import jinja2

from mlflow_image.paths import HERE, Checkout


@dataclass(frozen=True)
class Plugin:
    """One entry of `required_plugins`, for a Packer without a built-in qemu builder."""

    name: str
    source: str
    version: str


@dataclass(frozen=True)
class PackerBuild:
    """The variables of the Packer template: paths, QEMU's switches, the steps to run."""

    vm_name: str
    output: str
    overlay: str
    key: str
    #: QEMU's switches, each a list of words; they replace Packer's own.
    qemu_args: tuple[tuple[str, ...], ...]
    scripts: tuple[str, ...]
    #: NAME=value for every step; no secrets.
    environment: tuple[str, ...]
    shutdown_command: str
    ssh_timeout: str
    #: Commands to run before the scripts, in one shell.
    mounts: tuple[str, ...]


def hcl(value: str | tuple[str, ...] | list[str]) -> str:
    """A string or list as an HCL literal; `${` and `%{` would start HCL's own templates."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def image_template(
    build: PackerBuild, plugins: tuple[Plugin, ...] = (), checkout: Checkout = HERE
) -> str:
    """The text of packer/image.pkr.hcl.j2 for one build VM."""
    template = environment(checkout.root / "packer").get_template("image.pkr.hcl.j2")
    return template.render(build=build, plugins=plugins)


def build_seed(public_key: str, checkout: Checkout = HERE) -> str:
    """The user-data of a build VM on a vendor's image, with the key that may log in."""
    template = environment(checkout.root / "cloud-init").get_template("build.yaml.j2")
    return template.render(public_key=public_key)


def environment(folder: Path) -> jinja2.Environment:
    """Jinja2 for the templates of a folder: [[ ]] and [% %], because {{ }} is Packer's."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
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
