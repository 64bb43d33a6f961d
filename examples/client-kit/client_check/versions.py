"""Whether this Python and this MLflow fit the server."""

from __future__ import annotations

import re
import sys
from importlib import metadata

from client_check.report import Fault

_INSTALL = "python -m pip install -r requirements.txt"


def python(needed: str) -> str:
    """This Python. needed: the oldest for which the server's MLflow is made, or ""."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"
    installed = mlflow_version()
    if needed and not installed and _numbers(here) < _numbers(needed):
        raise Fault(
            f"this is Python {here}, and the kit's MLflow needs {needed} or newer",
            f"make the environment with Python {needed} or newer, or install "
            "requirements-older.txt",
        )
    return here


def mlflow_version() -> str:
    """The MLflow that is installed; "" when none is."""
    for name in ("mlflow", "mlflow-skinny"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def mlflow(server: str) -> str:
    """This MLflow against the server's. Clients one major version behind are tested."""
    here = mlflow_version()
    if not here:
        raise Fault("MLflow is not installed for this Python", _INSTALL)
    if not server:
        return f"{here}; the server's is not known"
    ours, theirs = _numbers(here)[0], _numbers(server)[0]
    if ours < theirs - 1:
        raise Fault(f"MLflow {here} is too old for the server's {server}", _INSTALL)
    if ours > theirs:
        raise Fault(f"MLflow {here} is newer than the server's {server} can serve", _INSTALL)
    if _numbers(here)[:2] > _numbers(server)[:2]:
        return f"{here}, newer than the server's {server}: its newest calls will fail"
    return f"{here}; the server's is {server}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", text)[:3]) or (0,)
