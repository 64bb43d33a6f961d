"""Keys: a change makes exactly the layers above it stale, and is named old -> new."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from mlflow_image.builder import keys, layers
from mlflow_image.builder.bake import steps
from mlflow_image.builder.bake.about import about
from mlflow_image.builder.layers import Layer
from mlflow_image.files import hash_file
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.anaconda import Decision
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Inputs
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.paths import Checkout
from tests.unit.samples import NAMES, UNIT, built

MakeInputs = Callable[..., Inputs]


def stale(stack: list[Layer]) -> list[str]:
    return [layer.name for layer in stack if not layer.built]


def of(name: str, stack: list[Layer]) -> Layer:
    return stack[NAMES.index(name)]


@pytest.fixture
def before(make_inputs: MakeInputs, checkout: Checkout) -> list[Layer]:
    """The layers of a finished build."""
    return built(keys.of(make_inputs(), checkout))


def test_the_layers_go_from_the_base_to_the_sealed_disk(before: list[Layer]) -> None:
    assert [layer.name for layer in before] == NAMES


def test_nothing_changed_nothing_is_stale(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    assert stale(keys.of(make_inputs(), checkout)) == []


def test_a_changed_file_makes_its_layer_and_the_seal_stale_and_is_named(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    old = hash_file(checkout.root / UNIT)[:12]
    with (checkout.root / UNIT).open("a") as file:
        file.write("# changed\n")
    new = hash_file(checkout.root / UNIT)[:12]
    after = keys.of(make_inputs(), checkout)
    assert stale(after) == ["image-files", "sealed"]
    assert layers.reasons(of("image-files", after)) == [f"{UNIT}: {old} -> {new}"]
    assert layers.reasons(of("sealed", after)) == ["the layer below it changes"]


def test_a_new_file_and_a_gone_file_are_named(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    (checkout.root / UNIT).rename(checkout.image_files / "etc" / "new.service")
    after = keys.of(make_inputs(), checkout)
    content = hash_file(checkout.image_files / "etc" / "new.service")[:12]
    assert layers.reasons(of("image-files", after)) == [
        f"image_files/etc/new.service: (none) -> {content}",
        f"{UNIT}: {content} -> (gone)",
    ]


def test_a_link_is_compared_by_its_target(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    link = checkout.image_files / "etc" / "link"
    link.symlink_to("one")
    built(keys.of(make_inputs(), checkout))
    link.unlink()
    link.symlink_to("two")
    after = keys.of(make_inputs(), checkout)
    assert layers.reasons(of("image-files", after)) == ["image_files/etc/link: -> one -> -> two"]


def test_a_mode_on_this_host_changes_nothing_but_the_table_does(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    (checkout.root / UNIT).chmod(0o600)
    assert stale(keys.of(make_inputs(), checkout)) == []
    with (checkout.guest_scripts / "image_files.modes").open("a") as file:
        file.write("0600 root root /usr/bin/mlflow-configure\n")
    after = keys.of(make_inputs(), checkout)
    assert stale(after) == ["image-files", "sealed"]
    (reason,) = layers.reasons(of("image-files", after))
    assert reason.startswith("scripts/guest/image_files.modes: ")


def test_pycache_folders_change_nothing(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    cache = checkout.image_files / "usr" / "lib" / "mlflow-image" / "__pycache__"
    cache.mkdir()
    (cache / "x.pyc").touch()
    assert stale(keys.of(make_inputs(), checkout)) == []


def test_a_changed_wheel_is_named_and_the_base_stays(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    after = keys.of(make_inputs(mlflow="3.18.0"), checkout)
    assert stale(after) == ["python", "image-files", "sealed"]
    short = "b" * 12
    assert layers.reasons(of("python", after)) == [
        f"wheel: mlflow: 3.17.2 {short} -> 3.18.0 {short}"
    ]


def test_a_changed_apt_package_makes_everything_stale_and_is_named(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    after = keys.of(make_inputs(apt={"bash": "5.2"}), checkout)
    assert stale(after) == NAMES
    (reason,) = layers.reasons(of("base", after))
    assert reason.startswith("apt: bash: 5.1 ") and " -> 5.2 " in reason
    assert layers.reasons(of("python", after)) == ["the layer below it changes"]


def test_the_size_of_the_disk_makes_the_base_stale(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    after = keys.of(make_inputs(disk_mib=8192), checkout)
    assert layers.reasons(of("base", after)) == ["disk_mib: 4096 -> 8192"]


def with_anaconda(make_inputs: MakeInputs, keep: bool = True) -> Inputs:
    return replace(
        make_inputs(),
        installer=anaconda.read_installer("anaconda"),
        decision=Decision("anaconda", "requested", 1, "", "2026-11-21T00:00:00Z"),
        definition=Definition(keep_distribution=keep),
    )


def test_what_stays_of_a_distribution_makes_its_layer_stale_and_not_the_base(
    make_inputs: MakeInputs, checkout: Checkout
) -> None:
    built(keys.of(with_anaconda(make_inputs), checkout))
    after = keys.of(with_anaconda(make_inputs, keep=False), checkout)
    assert stale(after) == ["python", "image-files", "sealed"]
    assert layers.reasons(of("python", after)) == ["python.keep_distribution: true -> false"]
    assert of("base", after).parts["disk_mib"] == "12288", "installing needs the space"
    assert of("sealed", after).parts["disk_mib"] == "5120"


def test_keep_distribution_does_not_concern_the_system_s_python(
    make_inputs: MakeInputs, checkout: Checkout
) -> None:
    built(keys.of(make_inputs(), checkout))
    definition = Definition(keep_distribution=False)
    after = keys.of(replace(make_inputs(), definition=definition), checkout)
    assert stale(after) == ["image-files", "sealed"], "the image contains its definition"


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
    checkout: Checkout,
    script: str,
    first_stale: str,
) -> None:
    with (checkout.guest_scripts / script).open("a") as file:
        file.write("true\n")
    after = keys.of(make_inputs(), checkout)
    assert stale(after) == NAMES[NAMES.index(first_stale) :]
    (reason,) = layers.reasons(of(first_stale, after))
    assert reason.startswith(f"scripts/guest/{script}: ")


def test_a_file_that_the_python_layer_runs_makes_it_stale(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    name = f"image_files/{steps.PREPARE_FOLDER}/{steps.PREPARE_FILES[0]}"
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    assert stale(keys.of(make_inputs(), checkout)) == ["python", "image-files", "sealed"]


def test_the_files_of_a_build_vm_are_in_the_key_of_a_base_of_packages(
    make_inputs: MakeInputs, checkout: Checkout
) -> None:
    unit = "scripts/guest/build-vm/etc/systemd/system/mlflow-image-build.service"
    of_packages = keys.of(make_inputs(), checkout)[0]
    with (checkout.root / unit).open("a") as file:
        file.write("# changed\n")
    changed = keys.of(make_inputs(), checkout)[0]
    assert layers.differing(changed, {"parts": of_packages.parts}) == [unit]
    of_image = keys.of(on_cloud_image(make_inputs()), checkout)[0]
    assert not any("build-vm" in part for part in of_image.parts)


def on_cloud_image(inputs: Inputs, sha256: str = "d" * 64) -> Inputs:
    image = CloudImage("https://a.example/r", "image.img", sha256, "E" * 40, "keys.gpg")
    return replace(inputs, packages=None, cloud_image=image)


def test_another_cloud_image_makes_everything_stale_and_is_named(
    make_inputs: MakeInputs, checkout: Checkout
) -> None:
    built(keys.of(on_cloud_image(make_inputs()), checkout))
    after = keys.of(on_cloud_image(make_inputs(), "f" * 64), checkout)
    assert stale(after) == NAMES
    assert layers.reasons(of("base", after)) == [
        f"cloud image: image.img {'d' * 12} -> image.img {'f' * 12}"
    ]


def test_a_base_of_packages_and_one_of_a_cloud_image_differ(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    after = keys.of(on_cloud_image(make_inputs()), checkout)
    assert of("base", after).title == "the vendor's cloud image"
    assert not any(part.startswith("apt") for part in of("base", after).parts)
    assert stale(after) == NAMES
    assert stale(keys.of(make_inputs(), checkout)) == []


def changed_code(checkout: Checkout, name: str) -> Checkout:
    """The checkout with a copy of our code in which one more line is in a file."""
    ours = checkout.code.resolve()
    checkout.code.unlink()
    shutil.copytree(ours, checkout.code, ignore=shutil.ignore_patterns("__pycache__"))
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    return checkout


@pytest.mark.parametrize(
    "name",
    [
        "mlflow_image/host/rootless.py",
        "mlflow_image/builder/disk/bootloaders.py",
        "mlflow_image/builder/bake/template.py",
        "mlflow_image/builder/bake/layer.py",
        "mlflow_image/builder/bake/about.py",
        "packer/image.pkr.hcl.j2",
    ],
)
def test_every_file_of_a_room_that_makes_layers_is_in_the_key(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout, name: str
) -> None:
    after = keys.of(make_inputs(), changed_code(checkout, name))
    assert stale(after) == NAMES
    assert any(name in reason for reason in layers.reasons(of("base", after)))


def test_the_user_data_of_a_build_vm_is_in_the_key_on_a_cloud_image_only(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    name = "cloud-init/build.yaml.j2"
    on_image = built(keys.of(on_cloud_image(make_inputs()), checkout))
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    assert stale(keys.of(make_inputs(), checkout)) == []
    after = keys.of(on_cloud_image(make_inputs()), checkout)
    assert stale(after) == NAMES[1:]
    assert layers.differing(after[1], {"parts": on_image[1].parts}) == [name]


def test_other_boot_loaders_make_another_sealed_disk_also_on_a_cloud_image(
    make_inputs: MakeInputs, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = on_cloud_image(make_inputs())
    one = keys.of(inputs, checkout)
    system = replace(inputs.definition.system, grub_efi="usr/lib/another.efi")
    monkeypatch.setitem(OPERATING_SYSTEMS, system.name, system)
    two = keys.of(inputs, checkout)
    assert [a.key == b.key for a, b in zip(one, two, strict=True)] == [True, True, True, False]


def test_a_changed_name_makes_the_layer_stale_that_writes_it_into_the_image(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    after = keys.of(replace(make_inputs(), definition=Definition(name="tracking")), checkout)
    assert stale(after) == ["image-files", "sealed"]
    (reason,) = layers.reasons(of("image-files", after))
    assert reason == "definition.name: mlflow -> tracking"


def test_the_reason_for_a_python_is_in_no_key_because_hosts_differ_in_it(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    inputs = make_inputs()
    decision = replace(inputs.decision, reason="the vendor is unreachable")
    assert stale(keys.of(replace(inputs, decision=decision), checkout)) == []


def test_every_value_of_the_description_is_a_part_of_the_key(
    before: list[Layer], make_inputs: MakeInputs
) -> None:
    parts = of("image-files", before).parts
    said = keys.flat(asdict(about(make_inputs())))
    assert said.items() <= parts.items()
    assert not any("git" in name or "commit" in name for name in said)
