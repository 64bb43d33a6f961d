"""What no file of the checkout may hold: paths of one machine, addresses of a registry."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.lint.sources import CHECKOUT, sources

#: Folders of the machine that this runs on: the checkout's, and those of its Python.
MACHINE_PATHS = sorted(
    str(folder)
    for folder in {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).parent}
    if len(folder.parts) > 2 and folder.parts[1] != "usr"
)
MACHINE_PATH = re.compile("|".join(rf"{re.escape(path)}\b" for path in MACHINE_PATHS))
HOSTS = re.compile(r"https?://(?:[^\s/@\"']+@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
#: Hosts made up for examples and tests, and those of formats and products that are named.
KNOWN_HOSTS = re.compile(
    r"(?:.*\.)?(?:example(?:\.(?:com|org|net))?|example\.com\.elsewhere\.org|test|invalid)"
    r"|[0-9.]+|(?:www\.)?w3\.org|json-schema\.org|github\.com|mlflow\.org"
    r"|(?:repo|www)\.anaconda\.com|cloud-images\.ubuntu\.com"
)
#: Written by the Go command, from the modules' own names.
GENERATED = {".sum", ".svg"}


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in sources():
        if path.suffix not in GENERATED and path.parent != Path(__file__).parent:
            found.append((path.relative_to(CHECKOUT), path.read_text(errors="replace")))
    return found


def lines_with(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """(place, what was found) for every match in the checkout."""
    return [
        (f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match[match.lastindex or 0])
        for path, text in texts()
        for match in pattern.finditer(text)
    ]


def test_the_checkout_is_looked_at_as_a_whole() -> None:
    names = {str(path) for path, _ in texts()}
    assert {
        "README.md",
        "pyproject.toml",
        "mlflow_image/builder/recipe.py",
        "scripts/invoke",
    } <= names


def test_a_machine_s_path_would_be_found() -> None:
    assert str(CHECKOUT) in MACHINE_PATHS
    assert MACHINE_PATH.search(f"see {CHECKOUT}/README.md")
    assert not MACHINE_PATH.search("/cache/checkout/x")


def test_no_file_names_a_path_of_the_machine_that_wrote_it() -> None:
    found = lines_with(MACHINE_PATH)
    assert not found, "paths of this machine; compute them, or use a made-up folder in tests"


def test_no_file_names_a_host_that_nobody_allowed() -> None:
    found = [(place, host) for place, host in lines_with(HOSTS) if not KNOWN_HOSTS.fullmatch(host)]
    assert not found, "addresses come from the host's own settings; see KNOWN_HOSTS"


def test_listing_the_tasks_imports_neither_mlflow_nor_pandas() -> None:
    code = "import sys, tasks; print([m for m in ('mlflow', 'pandas') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n", "importing them takes seconds; import them where they are used"
