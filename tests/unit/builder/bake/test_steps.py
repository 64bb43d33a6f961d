"""The steps of the layers: each belongs to one layer, and the files that it calls exist."""

from __future__ import annotations

import ast

from mlflow_image.builder.bake import steps
from mlflow_image.builder.keys import NAMES
from mlflow_image.paths import HERE


def test_every_step_belongs_to_exactly_one_layer() -> None:
    found = [path.name for name in NAMES for path in steps.scripts_of(name)]
    assert sorted(found) == sorted(path.name for path in HERE.guest_scripts.glob("[0-9]*.sh"))


def test_every_script_that_a_step_calls_exists() -> None:
    called = [path for name in NAMES for path in steps.called_scripts(name).values()]
    called.append(HERE.guest_scripts / steps.CONDA_SCRIPT)
    assert [path for path in called if not path.is_file()] == []


def test_programs_in_the_payload_import_only_modules_in_the_payload() -> None:
    given = set(steps.PREPARE_FILES)
    for name, path in steps.prepare_files().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "mlflow_launch":
                needed = {f"mlflow_launch/{alias.name}.py" for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "mlflow_launch."
            ):
                needed = {f"{node.module.replace('.', '/')}.py"}
            else:
                continue
            assert needed <= given, f"{name} imports {needed - given}"
