"""Follow a boot until it reaches its goal, fails, or takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlflow_image import watch
from mlflow_image.errors import Failure
from mlflow_image.vm import console, paused
from mlflow_image.vm.console import Stages

POLL_S = 0.5

#: Called with the stage that the boot has reached: "the kernel", "cloud-init", ...
OnWait = Callable[[str], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Boot:
    """A boot in progress: where its console text begins, and whether QEMU still runs."""

    directory: Path
    console_from: int
    alive: Callable[[], bool]

    @property
    def text(self) -> str:
        return console.read(self.directory, self.console_from)


def follow(
    boot: Boot,
    goal: str,
    reached: Callable[[str], Answer | None],
    on_wait: OnWait,
    timeout_s: float,
    stages: Stages = console.STAGES,
) -> Answer:
    """Wait until `reached`, called with the console's text, returns something; return that.

    goal: what we wait for, as messages name it. stages: the console texts by which the boot's
    stages are recognised. Raises Failure with the guest's console lines when QEMU exits, when
    the boot cannot continue, when QEMU paused the VM because the host could not write, and after
    `timeout_s`.
    """
    pause = paused.Check(boot.directory)
    deadline = time.monotonic() + timeout_s
    while True:
        watch.check()
        pause()
        alive = boot.alive()
        text = boot.text
        if (answer := reached(text)) is not None:
            return answer
        if end := console.dead_end(text):
            raise Failure(end.what, evidence=end.evidence)
        if not alive:
            raise Failure(f"the VM ended before {goal} was ready", evidence=_last_lines(boot))
        at = console.stage(text, stages)
        if time.monotonic() > deadline:
            raise Failure(
                f"{goal} was not ready within {timeout_s:.0f} s; the guest was at {at}",
                evidence=_last_lines(boot),
            )
        on_wait(at)
        time.sleep(POLL_S)


def _last_lines(boot: Boot) -> str:
    found = console.last_lines(boot.directory, offset=boot.console_from)
    return found or "(the guest printed nothing on its console)"
