#!/usr/bin/env bash
# layer: python
# Hands over this layer, which is /opt.
set -euo pipefail

echo ":: handing /opt over"
bash "$PAYLOAD/hand-over.sh" ./opt
