#!/usr/bin/env bash
# Byte-compiles /opt/mlflow. Arguments: the words that start the Python to do it with.
# The host calls this for the guest's Python in a chroot (mlflow_image/prepared.py), and
# 10-python.sh in the guest; the bytes are the same.
set -euo pipefail

# unchecked-hash: the same bytes every time, and no look at the source at every import.
# Test suites inside packages are never imported by a server. The seed orders the sets among
# a module's constants; nothing else of the environment has a say.
exec env -i PATH="$PATH" PYTHONHASHSEED=0 "$@" \
  -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/tests?/' /opt/mlflow/lib
