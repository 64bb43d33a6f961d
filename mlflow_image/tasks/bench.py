"""The task that measures: bench."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.checks.bench import boot, build, doors, figure, pair, rate, stores, uploads
from mlflow_image.checks.bench.figure import Figure
from mlflow_image.checks.record import add_rows, current_commit
from mlflow_image.errors import Refusal
from mlflow_image.images import find
from mlflow_image.images.find import Image
from mlflow_image.inputs import definition
from mlflow_image.paths import typed_path
from mlflow_image.server import user_data as user_data_file
from mlflow_image.tasks.task import refuse_unknown, task, whole_number
from mlflow_settings.settings import check

PARTS = ("rate", "uploads", "doors", "boot", "build")
#: Needs a database that two servers share, and so --settings.
PAIR = "pair"


@task(
    name="bench",
    help={
        "only": f"one of {', '.join(PARTS)}; default: all, about 40 minutes without KVM; "
        f"or {PAIR}: two servers behind HAProxy, with --settings, as root",
        "settings": "instead: a server with the stores of this settings file, natively; with "
        "--only boot, VMs with these settings and with SQLite, or without users and HTTPS",
        "user-data": "like --settings, with --only boot: a file of user-data, which VMs boot with",
        "image": "the image to boot: id, folder or disk file; default: the newest image",
        "packages": "the package set to build: full or server",
        "rounds": "how often to repeat each boot",
        "record": "record the figures that have a goal in docs/verified.json and its tables",
        "json": "print only the figures on stdout, as JSON",
    },
)
def measure(
    context: Context,
    only: str = "",
    settings: str = "",
    user_data: str = "",
    image: str = "",
    packages: str = "full",
    rounds: str = "2",
    record: bool = False,
    json: bool = False,
) -> None:
    """Measure call and upload rates, boot times and build times.

    Each figure is compared with its goal.
    Ratios compare values of the same run, because the load of a machine varies.
    """
    refuse_unknown("only", only, ("", *PARTS, PAIR))
    refuse_unknown("packages", packages, definition.schema()["properties"]["packages"]["enum"])
    count = whole_number("rounds", rounds)
    if count < 1:
        raise Refusal("--rounds 0 measures nothing", remedy="give at least 1")
    file = typed_path(settings or user_data) if settings or user_data else None
    if only == PAIR and not settings:
        remedy = "add --settings FILE, with PostgreSQL and a store that servers share"
        raise Refusal("two servers need a database in common", remedy=remedy)
    if settings and only not in ("", "boot", PAIR):
        raise Refusal(f"--settings excludes --only {only}", remedy="leave one of them out")
    if user_data and (settings or only != "boot"):
        raise Refusal("--user-data is for booting", remedy="add --only boot, without --settings")
    wanted = [only] if only and only != PAIR else [] if file else list(PARTS)
    booted = find.resolve(image or None) if "boot" in wanted else None
    if image and not booted:
        raise Refusal("--image is only for booting", remedy="add --only boot")
    commit = current_commit()
    with progress.on_stderr(json):
        if file:
            figures = with_stores(
                file, booted, count, is_user_data=bool(user_data), of_pair=only == PAIR
            )
        else:
            figures = measured(wanted, booted, count, packages)
    if record:
        add_rows(figure.as_rows(figures), commit)
    if json:
        print(figure.as_json(figures))
    else:
        progress.out.print(figure.table(figures))


def with_stores(
    file: Path,
    booted: Image | None,
    rounds: int,
    *,
    is_user_data: bool,
    of_pair: bool = False,
) -> list[Figure]:
    """The figures of the stores that a settings file names, in VMs or natively."""
    if booted:
        read = user_data_file.from_user_data if is_user_data else user_data_file.from_settings
        given = read(file, booted)
        if given.settings is None:
            remedy = "write the settings into it as `invoke user-data` does"
            raise Refusal(f"it is not certain which settings {file} writes", remedy=remedy)
        known = check(given.settings, file.name)
        has_stores = bool(known.backend_store.postgresql or known.artifact_store.remote)
        with progress.step("power-on to ready with these settings") as step:
            return boot.measure_settings(booted, given, rounds, step, has_stores=has_stores)
    chosen = user_data_file.checked(file, None)
    if of_pair:
        with progress.step("two servers behind HAProxy, and one") as step:
            return pair.measure(chosen, step)
    with progress.step("a server with these stores") as step:
        return stores.measure(chosen, step)


def measured(wanted: list[str], booted: Image | None, rounds: int, packages: str) -> list[Figure]:
    """The figures of the wanted parts, in the order of PARTS."""
    figures: list[Figure] = []
    if "rate" in wanted:
        with progress.step("one client's log_batch rate") as step:
            figures += rate.measure(step)
    if "uploads" in wanted:
        with progress.step("durable uploads") as step:
            figures += uploads.measure(step)
    if "doors" in wanted:
        with progress.step("users, nginx and TLS") as step:
            figures += doors.measure(step)
    if booted:
        with progress.step("power-on to the first logged run") as step:
            figures += boot.measure(booted, rounds, step)
    if "build" in wanted:
        with progress.step("build times") as step:
            figures += build.measure(packages, step)
    return figures
