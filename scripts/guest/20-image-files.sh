#!/usr/bin/env bash
# layer: image-files
# Lays image_files/ over the root, makes the users and folders that it declares.
set -euo pipefail
umask 022
export SOURCE_DATE_EPOCH

echo ":: laying image_files over the root"
tar -C / --no-overwrite-dir --numeric-owner -p -xf "$PAYLOAD/image_files.tar"
install -m 0644 "$PAYLOAD/mlflow-image.json" /etc/mlflow-image.json

echo ":: users, folders, boot menu"
systemd-sysusers
systemd-tmpfiles --create --prefix=/var/lib --prefix=/etc
/usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/mlflow-image
update-grub 2>/dev/null
