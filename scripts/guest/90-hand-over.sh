#!/usr/bin/env bash
# layer: image-files
# Hands the finished tree over, except for /opt, which the python layer handed over.
set -euo pipefail

echo ":: handing the tree over"
bash "$PAYLOAD/hand-over.sh" --exclude='./opt/*' \
  --exclude='./tmp/*' --exclude='./var/tmp/*' --exclude='./var/log/journal/*' --exclude=./swapfile .
