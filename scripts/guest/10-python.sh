#!/usr/bin/env bash
# layer: python
# Brings /opt/mlflow, which the host may have made already with this very Python.
set -euo pipefail

if [ -e "$PAYLOAD/opt-mlflow.tar" ]; then
  echo ":: unpacking /opt/mlflow, made on the host"
  tar -C / -xf "$PAYLOAD/opt-mlflow.tar"
else
  bash "$PAYLOAD/environment.sh"
fi
