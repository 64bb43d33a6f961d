"""The server's launcher: imports early, waits for the settings, lets MLflow check, forks workers.

A stock `mlflow server` imports everything twice in a row, and only after its settings are there:
60 of 112 s from power-on in an emulated guest. The launcher imports once, while the machine is
still booting, and then forks its workers (workers.py). MLflow's own command still decides
everything that it decides for a stock server: argument checks, database checks, the workers'
environment.

An MLflow that does not fit (mlflow_names.py) is started by its stock command, with a warning.
Without /run/mlflow/server.json nothing is ever served.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mlflow_launch import applications, bundle, failures, handover, notify, preload, schema_revision
from mlflow_launch.log import say
from mlflow_launch.stores import watch

PRELOAD_LIST = Path("/opt/mlflow/share/mlflow-image/preload.txt")
# What a process that starts over is given. It imports nothing early; with STOCK and a reason it
# runs the stock `mlflow server`.
WITHOUT_PRELOAD = "--without-preload"
STOCK = "--stock"
JOB_EXECUTION = "job execution is on"


def main(argv: list[str]) -> int:
    """Run until stopped; returns the exit code (78 when the settings were refused)."""
    # The collector would walk the same growing heap again and again while modules are imported.
    gc.disable()
    given = dict(os.environ)
    # Threads do not survive the fork of the workers; OpenBLAS starts its own while imported.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    failures.ensure_temporary_directory()
    # Before the imports: mlflow-configure --apply reads what this start says of its stores.
    watch.forget()
    run = Path(os.environ.get("MLFLOW_IMAGE_RUN", handover.RUN))
    listed = Path(os.environ.get("MLFLOW_IMAGE_PRELOAD", PRELOAD_LIST))
    if STOCK not in argv:
        bundle.install(listed.with_name(bundle.NAME))
    early = preload.Recorder()
    with early:
        sound = True
        if not argv:
            notify.status("importing modules while the machine boots")
            sound = preload.preload(listed)
            failures.wait_before_start(run)
        notify.status("waiting for mlflow-configure")
        launch = handover.wait(run)
        if isinstance(launch, handover.Refused):
            return refused(launch)
        if code := unusable(launch, listed):
            return code
        if STOCK in argv:
            from mlflow_launch import stock

            os.environ.update(launch.environment)
            watch.wait(watch.Stores.of(os.environ))
            reason = JOB_EXECUTION if launch.stock_command else argv[-1]
            application = applications.chosen(os.environ)
            application.prepare()
            code = stock.run(reason, application.words, differs=not launch.stock_command)
            if code:
                failures.note(f"`mlflow server` ended with exit code {code}", os.environ)
            return code
        if launch.stock_command:
            start_over(given, JOB_EXECUTION, STOCK, JOB_EXECUTION)
        fresh = WITHOUT_PRELOAD in argv
        late = early.disagrees(launch.environment)
        if not fresh and (late or not sound):
            without_preload(given, late)
        os.environ.update(launch.environment)
        stores, application = watch.Stores.of(os.environ), applications.chosen(os.environ)
        for kind in () if fresh else (*stores.kinds, *application.kinds):
            if not preload.preload(preload.list_of(kind, listed)):
                without_preload(given, [])
        application.prepare()
        return serve(Start(given, early, run, listed, stores, application, fresh))


@dataclass(frozen=True)
class Start:
    """What a start needs.

    given: the environment that a process which starts over begins with. run: the directory of
    mlflow-configure's files. listed: the preload list. fresh: nothing was imported early.
    """

    given: Mapping[str, str] = field(repr=False)
    early: preload.Recorder
    run: Path
    listed: Path
    stores: watch.Stores = field(repr=False)
    application: applications.Application
    fresh: bool


def serve(start: Start) -> int:
    """Check through MLflow's own command, import the application, and run the workers."""
    from mlflow_launch import command, mlflow_names, rehearsal

    try:
        found, application = decided(start)
        start.early.stop()
        rehearsal.rehearse(application, start.stores.kinds)
    except command.CommandRefusedError as error:
        failures.note(str(error), os.environ)
        return error.exit_code
    except mlflow_names.DiffersError as error:
        start_over(start.given, "this MLflow differs", STOCK, str(error))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        # Any other error's text may hold a setting's value; the new process shows its arguments.
        text = f": {error}" if isinstance(error, command.TEXT_HOLDS_NO_VALUE) else ""
        why = f"the launcher stopped at {type(error).__name__}{text}"
        start_over(start.given, "an error before the server was started", STOCK, why)
    from mlflow_launch import workers

    try:
        code = workers.run(application, found, start.run)
    except OSError as error:  # the port is taken, or the address is not this machine's
        failures.note(f"{found.host} port {found.port}: {error.strerror}", os.environ)
        return 1
    if code:
        failures.note("its workers ended soon after they had started", os.environ)
    return code


def decided(start: Start) -> tuple[Any, Any]:
    """What MLflow's command decided, and the application, with that environment in place.

    Waits until the stores can be used: MLflow itself would give up after 101 s.

    Raises command.CommandRefusedError, mlflow_names.DiffersError, and what importing MLflow
    raises.
    """
    from mlflow_launch import command

    stores = start.stores
    look = watch.Look(lambda: stores.trouble(write=True)) if stores.kinds else None
    if start.fresh:
        watch.wait(stores, look)
        refuse_another_revision(start)
        found = command.finished(command.started(start.application), start.application)
        os.environ.update(found.environment)
        start.application.load()
        return found, start.application.build()
    # The command's checks run at the same time as the rest of the application's import.
    applications.import_server()
    watch.wait(stores, look)
    refuse_another_revision(start)
    finish = command.started(start.application)
    try:
        start.application.load()
    finally:
        # Also after a failed import: the child may be migrating a database. Its own verdict, if
        # it has one, is the better reason.
        found = command.finished(finish, start.application)
    if late := start.early.disagrees(found.environment):
        without_preload(start.given, late)
    os.environ.update(found.environment)
    return found, start.application.build()


def refuse_another_revision(start: Start) -> None:
    """Raise CommandRefusedError when PostgreSQL holds the schema of another MLflow.

    A file is compared before (unusable), because that needs no connection.
    """
    from mlflow_launch import command

    if "postgresql" not in start.stores.kinds:
        return
    uri, template = start.stores.database, template_of(start.listed)
    if reason := watch.Look(lambda: schema_revision.difference(uri, template)).result():
        raise command.CommandRefusedError(reason, handover.EX_CONFIG)


def template_of(listed: Path) -> Path:
    """The image's empty database."""
    return listed.with_name("empty.sqlite")


def unusable(launch: handover.Launch, listed: Path) -> int:
    """The exit code when the machine does not fit these settings (yet), else 0."""
    if launch.state_has_moved():
        failures.note(
            f"the disk of {handover.STATE} was mounted after the server had begun to start",
            launch.environment,
        )
        return 1
    uri = launch.environment.get("MLFLOW_BACKEND_STORE_URI", "")
    is_file = uri.startswith(schema_revision.SQLITE)
    if is_file and (reason := schema_revision.difference(uri, template_of(listed))):
        failures.note(reason, launch.environment)
        notify.status("the database does not fit this MLflow")
        return handover.EX_CONFIG
    return 0


def refused(launch: handover.Refused) -> int:
    """Log why nothing is served; returns the exit code that the unit does not restart on."""
    for line in launch.reasons:
        say(f"refused: {line}")
    notify.status("the settings were refused; see mlflow-configure")
    return handover.EX_CONFIG


def without_preload(given: Mapping[str, str], names: list[str]) -> NoReturn:
    """Start over without importing anything before the settings are there."""
    why = f"{', '.join(names)} was read too early" if names else "a module needs mlflow.server"
    start_over(given, f"{why}; importing nothing early this time", WITHOUT_PRELOAD)


def start_over(given: Mapping[str, str], why: str, *words: str) -> NoReturn:
    """Replace this process with a new launcher: nothing imported, the environment as at first."""
    say(f"starting over: {why}")
    sys.stderr.flush()
    script = str(Path(sys.argv[0]).resolve())
    os.execve(sys.executable, [sys.executable, "-I", script, *words], given)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
