#!/usr/bin/env bash
# Creates /opt/mlflow from Anaconda's installer, offline; called by environment.sh.
# Reads: $PAYLOAD/anaconda-installer.sh, $PYTHON_VERSION (the Python in its package cache).
set -euo pipefail

base=${ANACONDA_PREFIX:-/opt/anaconda3}
environment=${ENVIRONMENT_PREFIX:-/opt/mlflow}
installer=$PAYLOAD/anaconda-installer.sh

# conda lists its environments in the home directory: use a temporary one.
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT

echo ":: installing Anaconda into $base"
bash "$installer" -b -p "$base"

echo ":: creating $environment with Anaconda's Python $PYTHON_VERSION"
# Without plugins: the one for the terms of service contacts the network first and, offline, ends
# in a traceback (conda issue 14664). The default solver is a plugin too; "classic" is not.
CONDA_NO_PLUGINS=true CONDA_SOLVER=classic \
  "$base/bin/conda" create --offline -y -p "$environment" "python=$PYTHON_VERSION"

found=$("$environment/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != "$PYTHON_VERSION" ]; then
  echo "conda created an environment with Python $found, not $PYTHON_VERSION" >&2
  exit 1
fi
