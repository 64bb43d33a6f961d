#!/usr/bin/env bash
# Makes the empty database, and the list and the bundle of modules to import early. Arguments:
# the words that start the Python to do it with. Reads: $PAYLOAD/prepare.
# The host calls this for the guest's Python in a chroot (mlflow_image/prepared.py), and
# 10-python.sh in the guest; the bytes are the same.
set -euo pipefail

# What is imported may depend on any variable. -B: the bytecode is that of byte-compile.sh.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  PYTHONHASHSEED=0 "$@" \
  -s -B "$PAYLOAD/prepare/make-empty-database" /opt/mlflow/share/mlflow-image
