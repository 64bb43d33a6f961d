"""What a build needs: refused early with numbers, by the same rule that doctor shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlflow_image import space
from mlflow_image.builder import doctor, requirements
from mlflow_image.errors import Refusals
from mlflow_image.host import resources, rootless
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.gather import Inputs

MakeInputs = Callable[..., Inputs]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free memory and disk of a stand-in host, in MiB."""
    found = {"memory": 10_000, "disk": 20_000}
    monkeypatch.setattr(rootless, "require", lambda: None)
    monkeypatch.setattr(resources, "free_memory_mib", lambda: found["memory"])
    monkeypatch.setattr(space, "free_mib", lambda _: found["disk"])
    return found


ALL = {"base", "python", "image-files", "sealed"}


@pytest.fixture
def inputs(make_inputs: MakeInputs) -> Inputs:
    """Inputs of the default image's size: 403 MiB of packages, 207 MiB of wheels."""
    small = make_inputs()
    assert small.packages
    package = replace(small.apt_packages[0], stanza=f"Package: all\nInstalled-Size: {403 << 10}\n")
    wheel = replace(small.wheels[0], size_bytes=207 << 20)
    return replace(small, packages=replace(small.packages, packages=(package,)), wheels=(wheel,))


def test_a_host_with_enough_of_both_is_accepted(free: dict[str, int], inputs: Inputs) -> None:
    requirements.require_host(ALL, inputs)


def test_too_little_of_both_is_refused_at_once_with_numbers(
    free: dict[str, int], inputs: Inputs
) -> None:
    free.update(memory=100, disk=200)
    with pytest.raises(Refusals) as refused:
        requirements.require_host(ALL, inputs)
    memory, disk = refused.value.faults
    assert "100 MiB are free" in memory
    assert "200 MiB are free" in disk


def test_anaconda_needs_more_disk(free: dict[str, int], inputs: Inputs) -> None:
    with pytest.raises(Refusals, match="cannot build") as refused:
        requirements.require_host(
            ALL, replace(inputs, installer=anaconda.read_installer("anaconda"))
        )
    assert "not enough disk" in refused.value.faults[0]


def test_a_distribution_that_the_image_does_not_keep_needs_space_once(inputs: Inputs) -> None:
    installer = anaconda.read_installer("anaconda")
    kept = replace(inputs, installer=installer)
    dropped = replace(kept, definition=replace(kept.definition, keep_distribution=False))
    plain, least = requirements.needs(inputs), requirements.needs(dropped)
    distribution_mib = installer.installed_bytes >> 20
    assert least["python"].peak_mib == plain["python"].peak_mib + distribution_mib
    assert {**least, "python": plain["python"]} == plain
    assert least["python"].kept_mib == plain["python"].kept_mib
    assert requirements.disk_mib(ALL, kept) > 2 * requirements.disk_mib(ALL, dropped)


def test_only_the_layers_that_are_made_need_space(free: dict[str, int], inputs: Inputs) -> None:
    free.update(disk=1_000)
    requirements.require_host({"image-files"}, inputs)
    with pytest.raises(Refusals, match="not enough disk"):
        requirements.require_host({"image-files", "sealed"}, inputs)


def test_the_estimates_are_above_what_was_measured_and_not_far(inputs: Inputs) -> None:
    measured = {"base": 1622, "python": 2416, "image-files": 497, "sealed": 2659}
    for layer, need in requirements.needs(inputs).items():
        assert 1.1 <= need.peak_mib / measured[layer] <= 1.6, layer
    assert requirements.disk_mib(ALL, inputs) <= requirements.NEEDED_DISK_MIB


@pytest.mark.parametrize("less", [1, 0])
def test_doctor_and_build_agree_on_what_is_enough(free: dict[str, int], less: int) -> None:
    needed = requirements.of_build()
    free.update(memory=needed.memory_mib - less, disk=needed.disk_mib - less)
    rows = {row.what: row.ok for row in doctor.room()}
    assert rows["memory"] == (not needed.memory_shortage) == (less == 0)
    assert rows["disk"] == (not needed.disk_shortage) == (less == 0)
