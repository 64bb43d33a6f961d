#!/usr/bin/env bash
# layer: python
# Builds /opt/mlflow in the build VM, when the host cannot.
set -euo pipefail

bash "$PAYLOAD/environment.sh"
