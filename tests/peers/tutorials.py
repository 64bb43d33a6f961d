"""The pages in docs/tutorials/: tests run the commands of each as it shows them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from mlflow_image.paths import HERE
from tests.lint.pages import FENCE

INVOKE = "scripts/invoke"
#: The fixture `image` of the tests runs it, in a cache of its own.
BUILD = f"{INVOKE} build-image"


class Tutorial:
    """One page. left: those of its commands that no test has asked for."""

    def __init__(self, number: str) -> None:
        self.page = HERE.root / "docs" / "tutorials" / f"{number}.md"
        shown = (found[2] for found in FENCE.finditer(self.page.read_text()) if not found[1])
        self.left = [line for text in shown for line in text.splitlines() if line.strip()]
        self.left.remove(BUILD)

    def command(self, start: str, values: Mapping[str, str] | None = None) -> list[str]:
        """The words of the command that starts so, without scripts/invoke. It counts as run.

        values: what replaces parts of its words, other than flags and the first.
        """
        (line,) = (one for one in self.left if one.removeprefix(f"{INVOKE} ").startswith(start))
        self.left.remove(line)
        words = shlex.split(line.removeprefix(f"{INVOKE} "))
        for before, after in (values or {}).items():
            assert before in line, f"{before} is not in: {line}"
            words[1:] = [
                word if word.startswith("-") else word.replace(before, after) for word in words[1:]
            ]
        return words
