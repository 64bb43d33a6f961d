"""A VM's state file, from which any process can load the VM and find its QEMU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlflow_image import files
from mlflow_image.errors import Failure
from mlflow_image.host.processes import Process
from mlflow_image.vm.qemu import Spec

STATE_NAME = "machine.json"


@dataclass(frozen=True)
class State:
    """What changes with every start.

    ports: guest port -> port on 127.0.0.1. console_from: byte offset in the console's log
    where the current boot begins.
    """

    process: Process | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    console_from: int = 0


def save_state(directory: Path, spec: Spec, state: State) -> None:
    """Write the state file; only its owner may read it."""
    plain = {**asdict(spec), "backing": str(spec.backing)}
    content = json.dumps({"spec": plain, "state": asdict(state)}, indent=1)
    files.write_private(directory / STATE_NAME, content)


def load_state(directory: Path) -> tuple[Spec, State]:
    """The specification and state of the VM in a directory; raises Failure when there is none."""
    try:
        data = json.loads((directory / STATE_NAME).read_text())
        spec, state = data["spec"], data["state"]
        process = state["process"]
        return (
            Spec(
                **{
                    **spec,
                    "backing": Path(spec["backing"]),
                    "forwards": _with_int_keys(spec["forwards"]),
                }
            ),
            State(
                process=Process(**process) if process else None,
                ports=_with_int_keys(state["ports"]),
                console_from=state["console_from"],
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"there is no VM in {directory}: {error}") from error


def _with_int_keys(mapping: Mapping[str, int]) -> dict[int, int]:
    return {int(key): value for key, value in mapping.items()}
