"""`python -m mlflow server`, as the stock command is started."""

import sys

from mlflow.cli import cli

cli(sys.argv[1:])
