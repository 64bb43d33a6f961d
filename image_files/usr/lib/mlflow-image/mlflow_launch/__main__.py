"""The server's launcher: imports early, waits for the settings, lets MLflow check, forks workers.

A stock `mlflow server` imports everything twice, one after the other, and only once its settings
are there: 60 of 112 s from power-on in an emulated guest. This imports once, while the machine
is still booting, and hands on to workers.py. Everything that MLflow's command decides (argument
checks, database checks, the workers' environment) is still decided by that command.

It fails closed: without /run/mlflow/server.json nothing is ever served.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import NoReturn

from mlflow_launch import bundle, handover, notify, preload
from mlflow_launch.log import say

PRELOAD_LIST = Path("/opt/mlflow/share/mlflow-image/preload.txt")
# How to begin again in a fresh process, when what was imported early saw another environment.
WITHOUT_PRELOAD = "--without-preload"


def main(argv: list[str]) -> int:
    """Run until stopped; returns the exit code (78 when the settings were refused)."""
    # The collector would walk the same growing heap again and again while modules are imported.
    gc.disable()
    # Threads do not survive the fork of the workers; OpenBLAS starts its own while imported.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    run = Path(os.environ.get("MLFLOW_IMAGE_RUN", handover.RUN))
    listed = Path(os.environ.get("MLFLOW_IMAGE_PRELOAD", PRELOAD_LIST))
    bundle.install(listed.with_name(bundle.NAME))
    early = preload.Recorder()
    with early:
        sound = True
        if WITHOUT_PRELOAD not in argv:
            notify.status("importing modules while the machine boots")
            sound = preload.preload(listed)
        notify.status("waiting for mlflow-configure")
        launch = handover.wait(run)
        if isinstance(launch, handover.Refused):
            return refused(launch)
        fresh = WITHOUT_PRELOAD in argv
        late = early.disagrees(launch.environment)
        if not fresh and (late or launch.stock_command or not sound):
            start_over(late)
        os.environ.update(launch.environment)
        if launch.stock_command:
            from mlflow_launch import stock

            return stock.run()
        return serve(early, fresh=fresh)


def serve(early: preload.Recorder, *, fresh: bool) -> int:
    """Check through MLflow's own command, import the application, and run the workers."""
    from mlflow_launch import command

    try:
        if fresh:
            found = command.started()()
            os.environ.update(found.environment)
            application = command.application()
        else:
            # The command's checks run beside the rest of the application's import.
            command.import_server()
            finish = command.started()
            application = command.application()
            found = finish()
            if late := early.disagrees(found.environment):
                start_over(late)
            os.environ.update(found.environment)
    except command.CommandRefusedError as error:
        say(f"not serving: {error}")
        return 1
    early.stop()
    from mlflow_launch import rehearsal, workers

    rehearsal.rehearse(application)
    return workers.run(application, found)


def refused(launch: handover.Refused) -> int:
    """Say why nothing is served, and give the exit code that the unit does not restart on."""
    for line in launch.reasons:
        say(f"refused: {line}")
    notify.status("the settings were refused; see mlflow-configure")
    return handover.EX_CONFIG


def start_over(names: list[str]) -> NoReturn:
    """Begin again in this same process, without importing anything before the settings."""
    why = f"{', '.join(names)} was read too early" if names else "a slower start is needed"
    say(f"starting over without early imports: {why}")
    sys.stderr.flush()
    script = Path(sys.argv[0]).resolve()
    os.execv(sys.executable, [sys.executable, "-I", str(script), WITHOUT_PRELOAD])  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
