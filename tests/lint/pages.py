"""The pages for readers: their code blocks, inline code, tables, and the paths that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mlflow_image.paths import HERE

CONTRIBUTING = HERE.root / "docs" / "contributing.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
#: A heading that names a folder; paths in its section are relative to it.
FOLDER_HEADING = re.compile(r"^#+ [^`\n]*`([^`\n]+/)`")
#: Paths that a build or a test creates; a fresh clone does not have them.
CREATED = re.compile(r"(dist|\.mlflow-image|\.venv)(/|$)|docs/verified\.json$")
FILE_SUFFIX = re.compile(r"\.(yaml|yml|toml|md|txt|py|sh|j2|svg|json|modes)$")


def pages() -> list[tuple[str, str]]:
    """(name, text) of every page."""
    files = [HERE.root / "README.md", *sorted((HERE.root / "docs").rglob("*.md"))]
    files += sorted((HERE.root / "examples").rglob("README.md"))
    return [(str(file.relative_to(HERE.root)), file.read_text()) for file in files]


def blocks(kind: str) -> list[tuple[str, str]]:
    """(page, content) of the fenced blocks of one kind."""
    return [
        (name, found[2])
        for name, text in pages()
        for found in FENCE.finditer(text)
        if found[1] == kind
    ]


def inline() -> list[tuple[str, str]]:
    """(page, code) of all inline code."""
    return [
        (name, found[1]) for name, text in pages() for found in INLINE.finditer(FENCE.sub("", text))
    ]


def paths_in(text: str, own: Path = HERE.root) -> Iterator[Path]:
    """The files and folders that a page names in inline code, relative to the checkout.

    A path is relative to the checkout, to the folder in the heading of its section, or to the
    page's own folder.
    """
    folder = HERE.root
    for line in FENCE.sub("", text).splitlines():
        if line.startswith("#"):
            heading = FOLDER_HEADING.match(line)
            folder = HERE.root / heading[1] if heading else HERE.root
        for code in filter(is_path, INLINE.findall(line)):
            candidates = [folder / code, HERE.root / code, own / code]
            found = [path for path in candidates if path.exists()]
            if not CREATED.match(code.removeprefix("../")):
                yield (found or candidates)[0].relative_to(HERE.root)


def is_path(code: str) -> bool:
    """Whether inline code means a file or folder of the checkout."""
    if re.search(r"[\s<>*=:()]", code) or code.startswith(("/", "~", "-", "$")):
        return False
    return "/" in code or bool(FILE_SUFFIX.search(code))


def first_column(text: str, title: str) -> list[str]:
    """The first cells of the table whose first title is `title`, without the title itself."""
    table = re.search(rf"^\| {title} \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [row.split("|")[1].strip() for row in table[1].splitlines()] if table else []
