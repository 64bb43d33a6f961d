"""The wheel of mlflow-hdfs, this repository's own plugin: for the image and for its clients."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from mlflow_image import command
from mlflow_image.paths import HERE, Checkout

PACKAGE = "mlflow_hdfs"
#: 2021-01-01; the wheel's bytes must not depend on the clock.
_EPOCH = "1609459200"
#: What pip calls (PEP 517), without pip, which takes ten times as long.
_BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def sources(checkout: Checkout = HERE) -> dict[str, Path]:
    """The files that the wheel is made of: path below the plugin's folder -> file."""
    folder = checkout.plugin
    found = [folder / "pyproject.toml", folder / "README.md", *(folder / PACKAGE).rglob("*.py")]
    return {str(path.relative_to(folder)): path for path in sorted(found)}


def build(target: Path, checkout: Checkout = HERE) -> Path:
    """Make the wheel in a folder; the same sources give the same bytes. Raises Failure."""
    with tempfile.TemporaryDirectory() as name:
        # A copy: setuptools writes beside its sources, and copies their modes.
        for path, source in sources(checkout).items():
            copy = Path(name, path)
            copy.parent.mkdir(exist_ok=True, parents=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o644)
        command.run(
            [sys.executable, "-c", _BUILD, target.resolve()],
            cwd=Path(name),
            env={"SOURCE_DATE_EPOCH": _EPOCH},
        )
    (made,) = target.glob(f"{PACKAGE}-*.whl")
    return made
