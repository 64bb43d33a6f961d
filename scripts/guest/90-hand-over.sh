#!/usr/bin/env bash
# layer: image-files
# Hands the finished tree over, but for what is in /opt, which the python layer did.
set -euo pipefail

echo ":: handing the tree over"
bash "$PAYLOAD/hand-over.sh" --exclude='./opt/*' \
  --exclude='./tmp/*' --exclude='./var/tmp/*' --exclude='./var/log/journal/*' --exclude=./swapfile .
