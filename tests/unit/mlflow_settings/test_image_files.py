"""The files that the image adds: links have targets, and units and programs agree."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mlflow_settings import render, settings

CHECKOUT = Path(__file__).parents[3]
TREE = CHECKOUT / "image_files"
UNITS = TREE / "usr/lib/systemd/system"


def unit(name: str) -> str:
    return (UNITS / name).read_text()


def test_every_unit_is_enabled_where_its_install_section_says() -> None:
    kinds = (".service", ".timer", ".path")
    files = sorted(file for file in UNITS.iterdir() if file.suffix in kinds)
    assert {file.suffix for file in files} == set(kinds)
    for file in files:
        # A timer or a path unit starts it.
        if file.suffix == ".service" and any(file.with_suffix(one) in files for one in kinds[1:]):
            continue
        wanted = re.findall(r"^WantedBy=(\S+)$", file.read_text(), re.MULTILINE)
        if any(f"OnFailure={file.name}" in other.read_text() for other in files):
            assert not wanted, file.name
            continue
        assert len(wanted) == 1, file.name
        link = TREE / f"etc/systemd/system/{wanted[0]}.wants" / file.name
        assert str(link.readlink()) == f"/usr/lib/systemd/system/{file.name}"


def test_every_program_that_a_unit_starts_is_in_the_tree_and_executable() -> None:
    modes = (CHECKOUT / "scripts/guest/image_files.modes").read_text()
    ours = re.findall(
        r"^Exec(?:Start|StartPost|StopPost)=[-+]*(/usr/(?:bin|lib)/mlflow\S*)",
        "\n".join(map(Path.read_text, UNITS.glob("*.service"))),
        re.MULTILINE,
    )
    assert ours
    for program in ours:
        assert (TREE / program.lstrip("/")).exists()
        assert f"0755 root root {program}\n" in modes


def test_the_launchers_early_environment_equals_the_default_settings() -> None:
    words = re.findall(r"^Environment=(.*)$", unit("mlflow-tracking.service"), re.MULTILINE)
    early = dict(word.split("=", 1) for line in words for word in line.split())
    rendered = render.environment(settings.Settings())
    assert early
    assert early == {name: rendered[name] for name in early}
    assert set(render.DEFAULTS) <= set(early)


def test_configure_does_not_start_cloud_init_where_it_is_disabled() -> None:
    pulled = re.findall(r"^(?:Wants|Requires)=(.*)$", unit("mlflow-configure.service"), re.M)
    assert pulled == ["network-online.target"]


def test_cloud_init_files_are_yaml() -> None:
    files = sorted((TREE / "etc/cloud/cloud.cfg.d").glob("*.cfg"))
    assert files
    assert all(isinstance(yaml.safe_load(file.read_text()), dict) for file in files)


def test_the_service_can_write_only_below_the_state_directory() -> None:
    assert "StateDirectory=mlflow\n" in unit("mlflow-tracking.service")
    written = re.findall(r"^ReadWritePaths=(.*)$", unit("mlflow-tracking.service"), re.M)
    assert written == ["/run/mlflow-socket"]
