#!/usr/bin/env bash
# layer: python
# Makes /opt/mlflow where the host cannot.
set -euo pipefail

bash "$PAYLOAD/environment.sh"
