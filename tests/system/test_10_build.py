"""From a definition to dist/ with a real VM, from an empty cache and without a network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import BUILT_ON_HOST, CHECKOUT, HOST_CANARY, Tasks, record_times, verified_manifest


@pytest.mark.budget(960)
@pytest.mark.verifies("build `ubuntu-22.04` offline, from an empty layer cache; Testinfra")
def test_a_build_without_cache_and_network_makes_a_verified_image(
    image: Path, build: subprocess.CompletedProcess[str], record_property: Callable[..., None]
) -> None:
    manifest = verified_manifest(image, build.stdout)
    assert manifest["verification"]["tests"] >= 30
    expected = {"disk.qcow2", "manifest.json", "settings-schema.json", "SHA256SUMS", "logs"}
    assert expected <= {path.name for path in image.iterdir()}
    assert manifest["disk"]["bytes"] < 700 * 10**6
    assert list(manifest["took"]) == ["base", "python", "image-files", "sealed"]
    record_times(manifest, record_property)
    assert BUILT_ON_HOST in build.stdout
    assert "next: `scripts/invoke up`" in build.stdout


@pytest.mark.budget(60)
def test_the_finished_tree_contains_no_names_or_paths_of_the_host(
    tasks: Tasks, image: Path
) -> None:
    layers = Path(tasks.environment["MLFLOW_IMAGE_CACHE"]) / "layers"
    trees = sorted(layers.glob("*/tree.tar"))
    assert [tree.parent.name.rpartition("-")[0] for tree in trees] == ["image-files", "python"]
    paths = [str(CHECKOUT), str(Path.home()), tasks.environment["MLFLOW_IMAGE_CACHE"]]
    words = [HOST_CANARY, *(path for path in paths if len(path) > len("/root"))]
    patterns = [word for text in words for word in ("-e", text)]
    found = subprocess.run(
        ["grep", "--text", "-m3", "--only-matching", "--fixed-strings", *patterns, *trees],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
    assert found.returncode == 1, found.stderr


def test_the_images_checksums_match(image: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=image, check=False)
    assert done.returncode == 0


@pytest.mark.budget(15)
def test_an_unchanged_build_ends_within_seconds_and_reports_no_change(
    tasks: Tasks, image: Path
) -> None:
    started = time.monotonic()
    done = tasks("build-image", "--offline", "--python", "system", no_network=True)
    assert done.returncode == 0
    assert "nothing changed" in done.stdout
    assert time.monotonic() - started < 15


@pytest.mark.budget(20)
def test_a_change_in_image_files_makes_only_its_layer_and_the_sealed_disk_stale(
    tasks: Tasks, image: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(
        CHECKOUT,
        copy,
        ignore=shutil.ignore_patterns(".git", ".venv", "dist", ".mlflow-image"),
        symlinks=True,
    )
    unit = "usr/lib/systemd/system/mlflow-tracking.service"
    with (copy / "image_files" / unit).open("a") as file:
        file.write("# changed\n")
    done = subprocess.run(
        [sys.executable, "-c", PLAN, str(copy)],
        env={**os.environ, **tasks.environment, "PYTHONPATH": str(copy)},
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
    )
    plan = {row["layer"]: row for row in json.loads(done.stdout)}
    assert [name for name, row in plan.items() if not row["cached"]] == ["image-files", "sealed"]
    assert [reason.split(":")[0] for reason in plan["image-files"]["reasons"]] == [
        f"image_files/{unit}"
    ]


PLAN = """
import json, sys
from mlflow_image import paths
from mlflow_image.builder import keys, plan
from mlflow_image.inputs import definition, gather
assert str(paths.HERE.root) == sys.argv[1]
wanted = gather.gather(definition.read(python="system"), gather.Freshness(offline=True))
rows = plan.decide(keys.of(wanted))
print(json.dumps([
    {"layer": r.layer.name, "cached": r.cached, "reasons": r.reasons} for r in rows
]))
"""


@pytest.mark.budget(60)
def test_ctrl_c_during_a_bake_leaves_no_processes_and_no_files(
    tasks: Tasks, image: Path, until: Callable[..., str]
) -> None:
    cache = Path(tasks.environment["MLFLOW_IMAGE_CACHE"])
    before = sorted(path.name for path in (cache / "layers").iterdir())
    process = tasks.start(
        "build-image", "--offline", "--python", "system", "--rebuild", "image-files"
    )
    until(process, "image-files:")
    deadline = time.monotonic() + 60
    while not (started := build_vms(cache)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert started, "the build VM never started"
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert build_processes(cache) == []
    assert sorted(path.name for path in (cache / "layers").iterdir()) == before
    assert list((cache / "work").iterdir()) == []


def build_vms(folder: Path) -> list[str]:
    """Only the build VM; qemu-img, or Packer while it validates, may run before it."""
    return [name for name in build_processes(folder) if name.startswith("qemu-system")]


def build_processes(folder: Path) -> list[str]:
    """The processes of this test's builds: QEMU or Packer with a path in the folder."""
    return [
        process.info["name"]
        for process in psutil.process_iter(["cmdline", "name"])
        if process.info["name"].startswith(("qemu", "packer"))
        and any(str(folder) in word for word in process.info["cmdline"] or ())
    ]
