#!/usr/bin/env bash
# Hands a part of the tree over: a tar on the disc that $HANDOVER names.
# Arguments: tar's, at least what to take, relative to /.
set -euo pipefail

# "degraded" is an end as well: a unit that fails in a build VM may have its reasons.
state=$(timeout 300 systemctl is-system-running --wait) || true
case $state in
  running | degraded) ;;
  *) echo "the boot did not come to its end: after 300 s at most the system is ${state:-starting}" >&2
     systemctl list-jobs >&2
     exit 1 ;;
esac

# ACLs travel as extended attributes; --acls would write user names that do not unpack elsewhere.
mkdir -p /run/root
mount --bind / /run/root
sync
tar -C /run/root --one-file-system --xattrs --xattrs-include='*' --sort=name --numeric-owner \
  --warning=no-file-changed --warning=no-file-ignored -b 2048 -cf "$HANDOVER" "$@" || [ $? -eq 1 ]
umount /run/root
sync
