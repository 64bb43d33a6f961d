"""What no file of the checkout may contain: paths of this machine, unknown hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.lint.sources import CHECKOUT, sources

#: Folders of this machine: the checkout, and those of its Python.
MACHINE_PATHS = sorted(
    str(folder)
    for folder in {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).parent}
    if len(folder.parts) > 2 and folder.parts[1] != "usr"
)
MACHINE_PATH = re.compile("|".join(rf"{re.escape(path)}\b" for path in MACHINE_PATHS))
HOSTS = re.compile(r"https?://(?:[^\s/@\"']+@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
#: Made-up hosts of examples and tests, and hosts of formats and products.
KNOWN_HOSTS = re.compile(
    r"(?:.*\.)?(?:example(?:\.(?:com|org|net))?|example\.com\.elsewhere\.org|test|invalid)"
    r"|[0-9.]+|(?:www\.)?w3\.org|json-schema\.org|github\.com|mlflow\.org"
    r"|(?:repo|www)\.anaconda\.com|cloud-images\.ubuntu\.com|acme-v02\.api\.letsencrypt\.org"
    r"|doi\.org|creativecommons\.org"
)
#: Generated files; go.sum contains the names of modules.
GENERATED = {".sum", ".svg"}


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in sources():
        if path.suffix not in GENERATED and path.parent != Path(__file__).parent:
            found.append((path.relative_to(CHECKOUT), path.read_text(errors="replace")))
    return found


def lines_with(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """(file and line, matched text) for every match in the checkout."""
    return [
        (f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match[match.lastindex or 0])
        for path, text in texts()
        for match in pattern.finditer(text)
    ]


def test_all_parts_of_the_checkout_are_searched() -> None:
    names = {str(path) for path, _ in texts()}
    assert {
        "README.md",
        "pyproject.toml",
        "mlflow_image/builder/recipe.py",
        "scripts/invoke",
    } <= names


def test_a_path_of_this_machine_is_recognised() -> None:
    assert str(CHECKOUT) in MACHINE_PATHS
    assert MACHINE_PATH.search(f"see {CHECKOUT}/README.md")
    assert not MACHINE_PATH.search("/cache/checkout/x")


def test_no_file_contains_a_path_of_this_machine() -> None:
    found = lines_with(MACHINE_PATH)
    assert not found, "compute such paths, or use a made-up folder in tests"


def test_no_file_contains_an_unknown_host() -> None:
    found = [(place, host) for place, host in lines_with(HOSTS) if not KNOWN_HOSTS.fullmatch(host)]
    assert not found, "take addresses from the host's settings, or add the host to KNOWN_HOSTS"


def test_listing_the_tasks_imports_neither_mlflow_nor_pandas() -> None:
    code = "import sys, tasks; print([m for m in ('mlflow', 'pandas') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n", (
        "importing them takes seconds; import them in the functions that use them"
    )
