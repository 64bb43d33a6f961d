#!/usr/bin/env bash
# Hands a part of the tree over: writes a tar to the disk $HANDOVER.
# Arguments: options of tar and at least one path, relative to /.
set -euo pipefail

# "degraded" counts as booted: some units cannot work in a build VM.
state=$(timeout 300 systemctl is-system-running --wait) || true
case $state in
  running | degraded) ;;
  *) echo "the build VM did not finish booting within 300 s: its state is ${state:-starting}" >&2
     systemctl list-jobs >&2
     exit 1 ;;
esac

# ACLs are stored as extended attributes; --acls would write user names, which fail to unpack.
mkdir -p /run/root
mount --bind / /run/root
sync
tar -C /run/root --one-file-system --xattrs --xattrs-include='*' --sort=name --numeric-owner \
  --warning=no-file-changed --warning=no-file-ignored -b 2048 -cf "$HANDOVER" "$@" || [ $? -eq 1 ]
umount /run/root
sync
