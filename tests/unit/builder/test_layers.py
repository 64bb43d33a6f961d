"""layers: what changes makes exactly what stands on it stale, and is named old -> new."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.builder import layers
from mlflow_image.builder.layers import RECORD_NAME, Layer
from mlflow_image.files import hash_file
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE

NAMES = ["base", "python", "image-files", "sealed"]
UNIT = "image_files/usr/lib/systemd/system/mlflow-tracking.service"
MakeInputs = Callable[..., Inputs]


def built(stack: list[Layer], seconds: float = 60.0) -> list[Layer]:
    """The same layers, with their records in the cache as after a build."""
    for layer in stack:
        layer.directory.mkdir(parents=True, exist_ok=True)
        record = layer.record(seconds, [("a phase", seconds)])
        (layer.directory / RECORD_NAME).write_text(json.dumps(record))
    return stack


def stale(stack: list[Layer]) -> list[str]:
    return [layer.name for layer in stack if not layer.built]


def of(name: str, stack: list[Layer]) -> Layer:
    return stack[NAMES.index(name)]


@pytest.fixture
def before(make_inputs: MakeInputs, checkout: Path) -> list[Layer]:
    """The layers of a finished build."""
    return built(layers.of(make_inputs()))


def test_layers_come_from_the_base_to_the_sealed_disk(before: list[Layer]) -> None:
    assert [layer.name for layer in before] == NAMES


def test_nothing_changed_nothing_is_stale(before: list[Layer], make_inputs: MakeInputs) -> None:
    assert stale(layers.of(make_inputs())) == []


def test_a_changed_file_makes_its_layer_and_the_seal_stale_and_is_named(
    before: list[Layer], make_inputs: MakeInputs, checkout: Path
) -> None:
    old = hash_file(checkout / UNIT)[:12]
    with (checkout / UNIT).open("a") as file:
        file.write("# changed\n")
    new = hash_file(checkout / UNIT)[:12]
    after = layers.of(make_inputs())
    assert stale(after) == ["image-files", "sealed"]
    assert layers.reasons(of("image-files", after)) == [f"{UNIT}: {old} -> {new}"]
    assert layers.reasons(of("sealed", after)) == ["the layer below it changes"]


def test_a_new_file_and_a_gone_file_are_named(
    before: list[Layer], make_inputs: MakeInputs, checkout: Path
) -> None:
    (checkout / UNIT).rename(checkout / "image_files" / "etc" / "new.service")
    after = layers.of(make_inputs())
    content = hash_file(checkout / "image_files" / "etc" / "new.service")[:12]
    assert layers.reasons(of("image-files", after)) == [
        f"image_files/etc/new.service: (none) -> {content}",
        f"{UNIT}: {content} -> (gone)",
    ]


def test_a_link_counts_by_where_it_leads(
    before: list[Layer], make_inputs: MakeInputs, checkout: Path
) -> None:
    link = checkout / "image_files" / "etc" / "link"
    link.symlink_to("one")
    built(layers.of(make_inputs()))
    link.unlink()
    link.symlink_to("two")
    after = layers.of(make_inputs())
    assert layers.reasons(of("image-files", after)) == ["image_files/etc/link: -> one -> -> two"]


def test_a_mode_on_this_host_changes_nothing_but_the_table_does(
    before: list[Layer], make_inputs: MakeInputs, checkout: Path
) -> None:
    (checkout / UNIT).chmod(0o600)
    assert stale(layers.of(make_inputs())) == []
    with (checkout / "scripts" / "guest" / "image_files.modes").open("a") as file:
        file.write("0600 root root /usr/bin/mlflow-configure\n")
    after = layers.of(make_inputs())
    assert stale(after) == ["image-files", "sealed"]
    (reason,) = layers.reasons(of("image-files", after))
    assert reason.startswith("scripts/guest/image_files.modes: ")


def test_what_python_leaves_in_a_folder_changes_nothing(
    before: list[Layer], make_inputs: MakeInputs, checkout: Path
) -> None:
    cache = checkout / "image_files" / "usr" / "lib" / "mlflow-image" / "__pycache__"
    cache.mkdir()
    (cache / "x.pyc").touch()
    assert stale(layers.of(make_inputs())) == []


def test_a_changed_wheel_is_named_and_the_base_stays(
    before: list[Layer], make_inputs: MakeInputs
) -> None:
    after = layers.of(make_inputs(mlflow="3.18.0"))
    assert stale(after) == ["python", "image-files", "sealed"]
    short = "b" * 12
    assert layers.reasons(of("python", after)) == [
        f"wheel: mlflow: 3.17.2 {short} -> 3.18.0 {short}"
    ]


def test_a_changed_apt_package_makes_everything_stale_and_is_named(
    before: list[Layer], make_inputs: MakeInputs
) -> None:
    after = layers.of(make_inputs(apt={"bash": "5.2"}))
    assert stale(after) == NAMES
    (reason,) = layers.reasons(of("base", after))
    assert reason.startswith("apt: bash: 5.1 ") and " -> 5.2 " in reason
    assert layers.reasons(of("python", after)) == ["the layer below it changes"]


def test_the_disk_s_size_makes_the_base_stale(before: list[Layer], make_inputs: MakeInputs) -> None:
    after = layers.of(make_inputs(disk_mib=8192))
    assert layers.reasons(of("base", after)) == ["disk_mib: 4096 -> 8192"]


@pytest.mark.parametrize(
    ("script", "first_stale"),
    [
        ("10-python.sh", "python"),
        ("19-hand-over-opt.sh", "python"),
        ("environment.sh", "python"),
        ("hand-over.sh", "python"),
        ("90-hand-over.sh", "image-files"),
    ],
)
def test_a_changed_step_makes_its_own_layer_stale(
    before: list[Layer],
    make_inputs: MakeInputs,
    checkout: Path,
    script: str,
    first_stale: str,
) -> None:
    with (checkout / "scripts" / "guest" / script).open("a") as file:
        file.write("true\n")
    after = layers.of(make_inputs())
    assert stale(after) == NAMES[NAMES.index(first_stale) :]
    (reason,) = layers.reasons(of(first_stale, after))
    assert reason.startswith(f"scripts/guest/{script}: ")


def test_a_file_that_the_python_layer_runs_makes_it_stale(
    before: list[Layer], make_inputs: MakeInputs, checkout: Path
) -> None:
    name = f"image_files/{layers.PREPARE_FOLDER}/{layers.PREPARE_FILES[0]}"
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert stale(layers.of(make_inputs())) == ["python", "image-files", "sealed"]


def test_what_lets_packer_in_is_a_part_of_the_base_and_of_no_cloud_image(
    make_inputs: MakeInputs, checkout: Path
) -> None:
    unit = "scripts/guest/build-vm/etc/systemd/system/mlflow-image-build.service"
    of_packages = layers.of(make_inputs())[0]
    with (checkout / unit).open("a") as file:
        file.write("# changed\n")
    changed = layers.of(make_inputs())[0]
    assert layers.differing(changed, {"parts": of_packages.parts}) == [unit]
    of_image = layers.of(on_cloud_image(make_inputs()))[0]
    assert not any("build-vm" in part for part in of_image.parts)


def test_the_nearest_earlier_build_is_compared_with(
    before: list[Layer], make_inputs: MakeInputs
) -> None:
    built(layers.of(make_inputs(mlflow="4.0.0", apt={"bash": "9"})))
    after = layers.of(make_inputs(mlflow="3.18.0"))
    assert len(layers.reasons(of("python", after))) == 1


def test_a_first_build_says_so(make_inputs: MakeInputs, checkout: Path) -> None:
    stack = layers.of(make_inputs())
    assert [layers.reasons(layer) for layer in stack] == [["never built here"]] * 4
    assert layers.expected_seconds(stack[0]) is None


def test_the_expected_time_is_that_of_the_most_similar_layer(
    before: list[Layer], make_inputs: MakeInputs
) -> None:
    built(layers.of(make_inputs(mlflow="3.18.0")), seconds=90.0)
    debian = replace(make_inputs(), definition=Definition(os="debian-12"))
    built(layers.of(debian), seconds=400.0)
    after = layers.of(make_inputs(mlflow="3.18.0", apt={"bash": "9"}))
    assert layers.expected_seconds(of("base", after)) == 90.0


def test_a_broken_record_is_no_finished_layer_s(before: list[Layer]) -> None:
    (before[0].directory / RECORD_NAME).write_text("{")
    assert layers.read_record(before[0].directory) is None
    assert layers.records("base") == []


def test_a_key_does_not_depend_on_the_order_of_its_parts() -> None:
    one = Layer("x", "x", {"a": "1", "b": "2"})
    assert one.key == Layer("x", "x", {"b": "2", "a": "1"}).key
    assert one.key != Layer("x", "x", {"a": "1", "b": "3"}).key


def test_every_step_belongs_to_exactly_one_layer() -> None:
    steps = sorted(p.name for p in HERE.guest_scripts.glob("[0-9]*.sh"))
    found = [p.name for name in NAMES for p in layers.scripts_of(name)]
    assert sorted(found) == steps
    assert len(steps) >= 3


def on_cloud_image(inputs: Inputs, sha256: str = "d" * 64) -> Inputs:
    image = CloudImage("https://a.example/r", "image.img", sha256, "E" * 40, "keys.gpg")
    return replace(inputs, packages=None, cloud_image=image)


def test_another_cloud_image_makes_everything_stale_and_is_named(
    make_inputs: MakeInputs, checkout: Path
) -> None:
    built(layers.of(on_cloud_image(make_inputs())))
    after = layers.of(on_cloud_image(make_inputs(), "f" * 64))
    assert stale(after) == NAMES
    assert layers.reasons(of("base", after)) == [
        f"cloud image: image.img {'d' * 12} -> image.img {'f' * 12}"
    ]


def test_a_base_of_packages_and_one_of_a_cloud_image_are_two(
    before: list[Layer], make_inputs: MakeInputs
) -> None:
    after = layers.of(on_cloud_image(make_inputs()))
    assert of("base", after).title == "the vendor's cloud image"
    assert not any(part.startswith("apt") for part in of("base", after).parts)
    assert stale(after) == NAMES
    assert stale(layers.of(make_inputs())) == []
