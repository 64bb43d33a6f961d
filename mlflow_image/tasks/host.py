"""Tasks for this host: doctor, clean."""

from __future__ import annotations

from invoke.context import Context

from mlflow_image import paths, progress
from mlflow_image.builder import cache, doctor
from mlflow_image.errors import Failure
from mlflow_image.server import vms
from mlflow_image.tasks.task import task, whole_number


@task(name="doctor")
def show_doctor(context: Context) -> None:
    """Show what this host can do, and what is missing."""
    rows = doctor.examine()
    progress.out.print(doctor.table(rows))
    if missing := [row for row in rows if not row.ok and row.needed]:
        names = ", ".join(row.what for row in missing)
        raise Failure(
            f"missing: {names}",
            remedy="see the rows above; `scripts/invoke` installs apt packages",
        )


@task(
    help={
        "all": "remove everything that no VM and no running build uses, including inputs",
        "days": "remove entries that were not used for this many days",
        "gigabytes": "then remove the least recently used entries until the rest fits this size",
    }
)
def clean(context: Context, all: bool = False, days: str = "60", gigabytes: str = "30") -> None:
    """Remove old entries from the cache, except those that VMs use."""
    age, limit = whole_number("days", days), whole_number("gigabytes", gigabytes)
    removed = cache.bound(
        vms.backing_files(),
        limit_bytes=0 if all else limit * 10**9,
        max_age_s=0 if all else age * 24 * 3600,
    )
    size = progress.human_bytes(sum(entry.bytes for entry in removed))
    progress.say(f"removed {len(removed)} entries, {size}; the cache is in {paths.cache()}")
