#!/usr/bin/env bash
# Creates /opt/mlflow from the installer of a conda distribution, offline; called by environment.sh.
# Reads: $PAYLOAD/conda-installer.sh, $SOURCE_DATE_EPOCH, $PYTHON_VERSION (the Python in the
# installer's package cache), and from mlflow_image/builder/bake/layer.py: $DISTRIBUTION_NAME,
# $DISTRIBUTION_PREFIX, $INSTALLER_SHA256, $INSTALLED_BYTES, $KEEP_DISTRIBUTION (true or false).
set -euo pipefail

base=$DISTRIBUTION_PREFIX
environment=${ENVIRONMENT_PREFIX:-/opt/mlflow}
installer=$PAYLOAD/conda-installer.sh
pins="its row in locks/installers.yaml"
# The installer wants this much more than what it installs.
buffer_bytes=$((50 * 1024 * 1024))

fail() {
  echo "$DISTRIBUTION_NAME $1" >&2
  exit 1
}

# The installer itself only warns about a wrong checksum, and unpacks what it can.
if ! echo "$INSTALLER_SHA256  $installer" | sha256sum --status --check; then
  fail "was damaged on its way into the build VM: $installer does not have the sha256 of $pins"
fi
mkdir -p "$(dirname "$base")"
needed=$(((INSTALLED_BYTES + buffer_bytes) / 1000000))
free=$(($(df --output=avail --block-size=1 "$(dirname "$base")" | tail -n 1) / 1000000))
if [ "$free" -lt "$needed" ]; then
  fail "needs $needed MB of free disk, $free MB are free: set a larger disk_mib in image.yaml"
fi

# conda lists its environments in the home directory: use a temporary one.
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT

# Files with the prefix in them are written now: their bytecode would contain this time.
export PYTHONDONTWRITEBYTECODE=1

echo ":: installing $DISTRIBUTION_NAME into $base"
bash "$installer" -b -p "$base"

# Without this Python, conda ends in a traceback.
shopt -s nullglob
wanted=("$base/pkgs/python-$PYTHON_VERSION".*/info/index.json)
if [ "${#wanted[@]}" -eq 0 ]; then
  cached=$(find "$base/pkgs" -maxdepth 1 -type d -name 'python-[0-9]*' -printf '%f\n' 2> /dev/null |
    cut -d- -f2 | sort -u | paste -sd ' ') || true
  fail "has no Python $PYTHON_VERSION in its package cache (there: ${cached:-none}): correct $pins"
fi

echo ":: creating $environment with Python $PYTHON_VERSION of $DISTRIBUTION_NAME"
# Without plugins: the one for the terms of service contacts the network first and, offline, ends
# in a traceback (conda issue 14664). The default solver is a plugin too; "classic" is not.
CONDA_NO_PLUGINS=true CONDA_SOLVER=classic \
  "$base/bin/conda" create --offline -y -p "$environment" "python=$PYTHON_VERSION"

found=$("$environment/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != "$PYTHON_VERSION" ]; then
  fail "created an environment with Python $found, not $PYTHON_VERSION"
fi

# conda logs the time of each transaction.
time=$(date -u -d "@$SOURCE_DATE_EPOCH" '+%F %T')
find "$base" "$environment" -path '*/conda-meta/history' \
  -exec sed -i "s/^==> .* <==\$/==> $time <==/" {} +

if [ "$KEEP_DISTRIBUTION" = false ]; then
  # The environment has hard links to the files that it needs.
  echo ":: removing $base"
  rm -rf "$base"
fi
