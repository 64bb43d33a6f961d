"""The SQLite file and the artifacts' directory on this machine: what must be there or is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlflow_settings import files
from mlflow_settings.document import Fault, Faults
from mlflow_settings.memory import STATE, Memory
from mlflow_settings.settings import Settings

EMPTY_DATABASE = Path("opt/mlflow/share/mlflow-image/empty.sqlite")


def refuse_unusable(root: Path, settings: Settings, name: str) -> None:
    """Refuse settings whose database is missing, and paths below something that is no folder.

    name: of the settings file, for messages. Raises Faults.
    """
    path = settings.backend_store.sqlite
    if path in Memory(root).databases and not (root / path.lstrip("/")).exists():
        raise Faults(
            [
                Fault(
                    name,
                    ("backend_store", "sqlite"),
                    1,
                    path,
                    # A new database would look like data loss.
                    f"the database {path} existed before and is missing",
                    "restore it (is its disk mounted?), or remove its line from "
                    f"/{STATE}/databases to start with an empty one",
                )
            ]
        )
    for where, wanted in (
        (("backend_store", "sqlite"), str(Path(path).parent) if path else ""),
        (("artifact_store", "local"), settings.artifact_store.local),
    ):
        if wanted and (blocking := files.not_a_directory(root, wanted)):
            message = f"cannot be created: {blocking} is not a directory"
            raise Faults([Fault(name, where, 1, wanted, message, "choose another path")])


def ensure(root: Path, settings: Settings, say: Callable[[str], None]) -> None:
    """Copy the empty, migrated database of the image where none exists; saves 11 s of start."""
    path = settings.backend_store.sqlite
    if not path:
        return
    database = root / path.lstrip("/")
    template = root / EMPTY_DATABASE
    if not database.exists() and template.exists():
        files.copy_new(template, database)
        say(f"created the empty database {path}")
    if database.exists() and (problem := Memory(root).add_database(path)):
        say(problem)
