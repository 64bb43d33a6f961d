"""Pages whose commands the tests run as they are shown: docs/tutorials/, and those of examples."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from mlflow_image.paths import HERE
from tests.lint.pages import FENCE

INVOKE = "scripts/invoke"
#: The fixture `image` of the tests runs it, in a cache of its own.
BUILD = f"{INVOKE} build-image"


class Page:
    """The commands of one page. left: those that no test has asked for."""

    def __init__(self, page: Path) -> None:
        shown = (found[2] for found in FENCE.finditer(page.read_text()) if found[1] != "text")
        self.commands = [line for text in shown for line in text.splitlines() if line.strip()]
        self.left = list(self.commands)

    def command(self, start: str, having: str = "") -> str:
        """The one command that starts so and contains `having`. It counts as run."""
        (line,) = (one for one in self.commands if one.startswith(start) and having in one)
        if line in self.left:
            self.left.remove(line)
        return line


class Tutorial(Page):
    """A page in docs/tutorials/, by its number."""

    def __init__(self, number: str) -> None:
        super().__init__(HERE.root / "docs" / "tutorials" / f"{number}.md")
        self.left.remove(BUILD)

    def words(self, start: str, values: Mapping[str, str] | None = None) -> list[str]:
        """The words of the command that starts so, without scripts/invoke.

        values: what replaces parts of its words, other than flags and the first.
        """
        starts = (f"{INVOKE} {start}", start)
        (found,) = (one for one in self.commands if one.startswith(starts))
        line = self.command(found)
        words = shlex.split(line.removeprefix(f"{INVOKE} "))
        for before, after in (values or {}).items():
            assert before in line, f"{before} is not in: {line}"
            words[1:] = [
                word if word.startswith("-") else word.replace(before, after) for word in words[1:]
            ]
        return words
