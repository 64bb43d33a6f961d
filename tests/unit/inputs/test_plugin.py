"""The wheel of the plugin for HDFS: the same bytes from every clone, with every umask."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from mlflow_image.inputs import plugin, wheels
from mlflow_image.paths import HERE, Checkout


def test_the_same_sources_give_the_same_wheel(checkout: Checkout, tmp_path: Path) -> None:
    for path in checkout.plugin.rglob("*.py"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    (checkout.plugin / "build").mkdir(exist_ok=True)
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, second = plugin.build(folders[0]), plugin.build(folders[1], checkout)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_the_wheel_holds_every_module_and_both_schemes(tmp_path: Path) -> None:
    with zipfile.ZipFile(plugin.build(tmp_path)) as archive:
        names = archive.namelist()
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        schemes = archive.read(points).decode()
    modules = [name for name in plugin.sources() if name.endswith(".py")]
    assert set(modules) <= set(names)
    assert "hdfs = " in schemes
    assert "viewfs = " in schemes


def test_what_the_plugin_needs_is_locked_for_every_image() -> None:
    for lock in HERE.locks.glob("image-3.*.txt"):
        names = {wheel.name for wheel in wheels.read_lock(lock)}
        assert {"hdfs-native", "mlflow-skinny"} <= names
