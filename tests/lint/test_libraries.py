"""The table of libraries in docs/contributing.md, compared with the imports and pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions

from mlflow_image.paths import HERE
from tests.lint.pages import CONTRIBUTING, first_column

OURS = {"mlflow_image", "mlflow_settings", "mlflow_launch"}


def test_every_library_of_the_host_is_explained_and_no_other() -> None:
    explained = {normal(name) for name in first_column(CONTRIBUTING.read_text(), "library")}
    assert len(explained) > 10
    assert explained == imported() | dependencies()


def imported() -> set[str]:
    """The distributions that mlflow_image/ imports, by their normalised names."""
    distributions = packages_distributions()
    found = set()
    for file in (HERE.root / "mlflow_image").rglob("*.py"):
        for package in top_level_imports(ast.parse(file.read_text())):
            if package not in OURS and package not in sys.stdlib_module_names:
                found |= {normal(name) for name in distributions[package]}
    return found


def top_level_imports(tree: ast.AST) -> set[str]:
    """The first parts of all imported modules, those inside functions included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def dependencies() -> set[str]:
    """The project's dependencies in pyproject.toml; Python 3.10 has no tomllib."""
    text = (HERE.root / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block
    return {normal(name) for name in re.findall(r'"([A-Za-z0-9._-]+)', block[1])}


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
