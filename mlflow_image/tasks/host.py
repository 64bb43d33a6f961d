"""Tasks about this host: doctor, clean."""

from __future__ import annotations

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.builder import cache as layer_cache
from mlflow_image.builder import doctor
from mlflow_image.errors import Failure
from mlflow_image.paths import cache
from mlflow_image.server import vms
from mlflow_image.tasks.task import task, whole_number


@task(name="doctor")
def show_doctor(context: Context) -> None:
    """Show what this host can do, and what it lacks."""
    rows = doctor.examine()
    progress.out.print(doctor.table(rows))
    if missing := [row for row in rows if not row.ok and row.needed]:
        names = ", ".join(row.what for row in missing)
        raise Failure(
            f"missing: {names}",
            remedy="the rows above say what each needs; `scripts/invoke` installs what apt has",
        )


@task(
    help={
        "all": "remove everything that no VM and no running build stands on, also the inputs",
        "days": "remove what was not used for so many days",
        "gigabytes": "and the least recently used above this size",
    }
)
def clean(context: Context, all: bool = False, days: str = "60", gigabytes: str = "30") -> None:
    """Remove from the cache what is old; never what a VM stands on."""
    age, limit = whole_number("days", days), whole_number("gigabytes", gigabytes)
    removed = layer_cache.collect(
        vms.backing_files(),
        limit_bytes=0 if all else limit * 10**9,
        max_age_s=0 if all else age * 24 * 3600,
    )
    size = progress.human_bytes(sum(entry.bytes for entry in removed))
    progress.say(f"removed {len(removed)} entries, {size}; the cache is {cache()}")
