"""The errors that end a task: what is wrong, where, what to do, and the evidence."""

from __future__ import annotations

import os


class Failure(Exception):  # noqa: N818 - users see the word "error"
    """The work failed: the kernel panicked, a provisioning step failed, a server never got ready.

    what: one sentence that says what is wrong and where.
    remedy: what the user can do about it; may be empty.
    evidence: the last output of the program that failed; printed unchanged.
    of_guest: whether the evidence is output of a guest, and so says nothing about this host.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, remedy: str = "", evidence: str = "", of_guest: bool = False
    ) -> None:
        super().__init__(what)
        self.of_guest = of_guest
        self.what = what
        self.remedy = remedy
        self.evidence = evidence

    def add_remedy(self, text: str) -> None:
        """Add one more thing that the user can do."""
        self.remedy = f"{self.remedy}; {text}" if self.remedy else text

    def __str__(self) -> str:
        lines = [as_typed(self.what)]
        if self.evidence:
            lines += ["", *(f"    {line}" for line in self.evidence.rstrip().splitlines()), ""]
        if self.remedy:
            lines.append(f"What to do: {as_typed(self.remedy)}")
        return "\n".join(lines)


class Refusal(Failure):
    """An input was rejected before anything was started or written."""

    exit_code = 2


class Refusals(Refusal):
    """Several errors in one input, reported together, one line each."""

    def __init__(self, what: str, faults: list[str], *, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.faults = faults

    def __str__(self) -> str:
        lines = [self.what, *(f"  - {fault}" for fault in self.faults)]
        if self.remedy:
            lines.append(f"What to do: {self.remedy}")
        return as_typed("\n".join(lines))


def as_typed(text: str) -> str:
    """Replace `invoke TASK` in a message with the command that this user runs.

    scripts/invoke passes its own name in MLFLOW_IMAGE_INVOKE.
    """
    return text.replace("`invoke ", f"`{os.environ.get('MLFLOW_IMAGE_INVOKE') or 'invoke'} ")
