#!/usr/bin/env bash
# Makes /opt/mlflow from Anaconda's installer without a network; environment.sh calls this.
# Reads: $PAYLOAD/anaconda-installer.sh, $PYTHON_VERSION (the Python in its package cache).
set -euo pipefail

base=${ANACONDA_PREFIX:-/opt/anaconda3}
environment=${ENVIRONMENT_PREFIX:-/opt/mlflow}
installer=$PAYLOAD/anaconda-installer.sh

# conda notes its environments in the home of whoever runs it; this one is thrown away.
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT

echo ":: installing Anaconda into $base"
bash "$installer" -b -p "$base"

echo ":: making $environment with Anaconda's Python $PYTHON_VERSION"
# Without plugins: the one about terms of service asks the network before anything else and,
# offline, ends in a traceback (conda issue 14664). The solver is a plugin too, but one.
CONDA_NO_PLUGINS=true CONDA_SOLVER=classic \
  "$base/bin/conda" create --offline -y -p "$environment" "python=$PYTHON_VERSION"

found=$("$environment/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != "$PYTHON_VERSION" ]; then
  echo "conda made an environment with Python $found, not $PYTHON_VERSION" >&2
  exit 1
fi
