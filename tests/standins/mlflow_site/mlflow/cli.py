"""The stand-in's command line: one command, which ends like one of click's."""

import sys


def cli(arguments, standalone_mode=True):
    from mlflow.server import run_server

    assert arguments == ["server"]
    run_server()
    sys.exit(0)
