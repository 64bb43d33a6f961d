#!/usr/bin/env bash
# layer: python
# Hands /opt over, so that a change in the layer above need not do it again, and notes its state.
set -euo pipefail
umask 022

echo ":: handing /opt over"
mkdir -p /var/lib/mlflow-image # emptied by the seal
bash "$PAYLOAD/opt-state.sh" > /var/lib/mlflow-image/opt-state
bash "$PAYLOAD/hand-over.sh" ./opt
