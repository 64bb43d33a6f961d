#!/usr/bin/env bash
# layer: image-files
# Hands the finished tree over: a tar on the disc that $HANDOVER names.
set -euo pipefail

# ACLs travel as extended attributes; --acls would write user names that do not unpack elsewhere.
echo ":: handing the tree over"
mkdir -p /run/root
mount --bind / /run/root
sync
tar -C /run/root --one-file-system --xattrs --xattrs-include='*' --sort=name --numeric-owner \
  --exclude='./tmp/*' --exclude='./var/tmp/*' --exclude='./var/log/journal/*' --exclude=./swapfile \
  --warning=no-file-changed --warning=no-file-ignored -b 2048 -cf "$HANDOVER" . || [ $? -eq 1 ]
sync
