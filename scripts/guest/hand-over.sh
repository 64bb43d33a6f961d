#!/usr/bin/env bash
# Hands a part of the tree over: a tar on the disc that $HANDOVER names.
# Arguments: tar's, at least what to take, relative to /.
set -euo pipefail

# cloud-init's final stage comes after everything that a boot starts, and writes this file.
timeout 300 sh -c 'until [ -e /run/cloud-init/result.json ]; do sleep 0.2; done' || {
  echo "the boot did not come to its end: there is no /run/cloud-init/result.json" >&2
  exit 1
}

# ACLs travel as extended attributes; --acls would write user names that do not unpack elsewhere.
mkdir -p /run/root
mount --bind / /run/root
sync
tar -C /run/root --one-file-system --xattrs --xattrs-include='*' --sort=name --numeric-owner \
  --warning=no-file-changed --warning=no-file-ignored -b 2048 -cf "$HANDOVER" "$@" || [ $? -eq 1 ]
umount /run/root
sync
