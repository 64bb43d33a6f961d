"""How a result is shown: one line for each question, with a second one for what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field


class Fault(Exception):  # noqa: N818 - as in errors.py of the pipeline
    """Something is wrong: what, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


class OutOfDate(Fault):
    """A certificate whose time is not now: its own fault, or the clock's."""


class Unknown(Exception):  # noqa: N818
    """A question that cannot be asked, and why."""


@dataclass
class Report:
    """Prints each result as soon as it is known."""

    faults: int = 0
    passed: set[str] = field(default_factory=set)

    def check(self, name: str, ask: Callable[[], str], after: tuple[str, ...] = ()) -> bool:
        """Ask one question, unless one that it depends on has failed."""
        missing = [one for one in after if one not in self.passed]
        if missing:
            self._line("--", name, f"not checked, because of: {missing[0]}")
            return False
        try:
            said = ask()
        except Fault as fault:
            self._line("!!", name, fault.what)
            sys.stdout.write(f"{'':15}do: {fault.remedy}\n")
            self.faults += 1
            return False
        except OSError as error:
            self._line("!!", name, f"the connection fails ({error})")
            sys.stdout.write(f"{'':15}do: run check.py again\n")
            self.faults += 1
            return False
        except Unknown as reason:
            self._line("--", name, f"not checked: {reason}")
            return False
        self._line("ok", name, said)
        self.passed.add(name)
        return True

    @staticmethod
    def _line(mark: str, name: str, text: str) -> None:
        sys.stdout.write(f"{mark:4}{name:11}{' '.join(text.split())}\n")
        sys.stdout.flush()
