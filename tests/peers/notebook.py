"""Runs examples/notebook/ without a page, as its README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlflow_image.paths import HERE
from mlflow_image.server.local import own_environment
from tests.peers.environments import of_lock

NAME = "wine_quality.ipynb"
EXECUTE = ("jupyter", "execute", "--inplace", NAME)


def execute(
    folder: Path, first_cell: str = "", words: Sequence[str] = EXECUTE
) -> subprocess.CompletedProcess[str]:
    """Run a copy of the notebook in the folder, which is made; its output stays in it.

    first_cell: what `client-env` printed.
    """
    shutil.copytree(HERE.root / "examples" / "notebook", folder)
    if first_cell:
        written = json.loads((folder / NAME).read_text())
        cell = next(one for one in written["cells"] if one["cell_type"] == "code")
        cell["source"] = first_cell
        (folder / NAME).write_text(json.dumps(written))
    place = of_lock(HERE.locks / "examples" / "notebook.txt")
    return subprocess.run(
        [place / "bin" / words[0], *words[1:]],
        cwd=folder,
        env={**own_environment(), "HOME": str(folder), "PATH": f"{place}/bin:{os.defpath}"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def outputs(folder: Path) -> str:
    """What the cells have printed."""
    written = json.loads((folder / NAME).read_text())
    printed = (out for cell in written["cells"] for out in cell.get("outputs", ()))
    return "".join("".join(one.get("text", ())) for one in printed)
