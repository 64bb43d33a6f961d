"""The SQLite files and the artifacts' directory on this machine: what must be there or is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow_settings import files
from mlflow_settings.document import Fault, Faults
from mlflow_settings.memory import STATE, Memory
from mlflow_settings.settings import Settings

#: Made when the image is built (mlflow_launch/empty_database.py).
TEMPLATES = Path("opt/mlflow/share/mlflow-image")
RUNS, USERS = "empty.sqlite", "empty-accounts.sqlite"


def refuse_unusable(root: Path, settings: Settings, name: str) -> None:
    """Refuse settings whose database is missing, and paths below something that is no folder.

    name: of the settings file, for messages. Raises Faults.
    """
    known = Memory(root).databases
    for path in _files(settings):
        if path in known and not (root / path.lstrip("/")).exists():
            # A new database would look like data loss.
            message = f"the database {path} existed before and is missing"
            remedy = (
                "restore it (is its disk mounted?), or remove its line from "
                f"/{STATE}/databases to start with an empty one"
            )
            raise Faults([Fault(name, ("backend_store", "sqlite"), 1, path, message, remedy)])
    path = settings.backend_store.sqlite
    for where, wanted in (
        (("backend_store", "sqlite"), str(Path(path).parent) if path else ""),
        (("artifact_store", "local"), settings.artifact_store.local),
    ):
        if wanted and (blocking := files.not_a_directory(root, wanted)):
            message = f"cannot be created: {blocking} is not a directory"
            raise Faults([Fault(name, where, 1, wanted, message, "choose another path")])


def ensure(root: Path, settings: Settings, say: Callable[[str], None]) -> None:
    """Copy the empty, migrated database of the image where none exists; saves 11 s of start."""
    for path, name in _files(settings).items():
        database, template = root / path.lstrip("/"), root / TEMPLATES / name
        if not database.exists() and template.exists():
            files.copy_new(template, database)
            say(f"created the empty database {path}")
        if database.exists() and (problem := Memory(root).add_database(path)):
            say(problem)


def _files(settings: Settings) -> Mapping[str, str]:
    """The SQLite files that these settings use, each with its template."""
    store = settings.backend_store
    if not store.sqlite:
        return {}
    return {store.sqlite: RUNS, **({store.accounts: USERS} if settings.auth.basic else {})}
