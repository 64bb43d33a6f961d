#!/usr/bin/env bash
# layer: image-files
# Lays image_files/ over the root, makes the users and folders that it declares.
set -euo pipefail
umask 022
export SOURCE_DATE_EPOCH

# Handing over reads every file, which takes half of its time (emulated) unless they are in memory.
{ find / -xdev -type f -print0 | xargs -0 -r cat; } < /dev/null > /dev/null 2>&1 &

echo ":: laying image_files over the root"
tar -C / --no-overwrite-dir --numeric-owner -p -xf "$PAYLOAD/image_files.tar"
install -m 0644 "$PAYLOAD/mlflow-image.json" /etc/mlflow-image.json

echo ":: users, folders, bytecode"
systemd-sysusers
systemd-tmpfiles --create --prefix=/var/lib --prefix=/etc
# For the system's Python, which configures, and for the one that serves: Anaconda's is another, and
# neither can write its own there. -B: what they import on the way is not ours to compile.
for python in $(realpath /usr/bin/python3 /opt/mlflow/bin/python | sort -u); do
  "$python" -B -m compileall -q --invalidation-mode unchecked-hash /usr/lib/mlflow-image
done
# Their packages bring no bytecode, and the first boot of every clone would make it. Checked: they
# may be upgraded, and nobody would know that this is stale.
for folder in /usr/share/netplan /usr/lib/python3/dist-packages/netplan; do
  if [ -d "$folder" ]; then
    /usr/bin/python3 -B -m compileall -q --invalidation-mode checked-hash "$folder"
  fi
done
# A vendor's cloud image names its root by partition, and keeps /boot on one of its own (Ubuntu
# 24.04); the sealed disk has one root file system, with other ids.
rm -f /etc/default/grub.d/40-force-partuuid.cfg
if mountpoint -q /boot; then
  mkdir -p /run/one-root
  mount --bind / /run/one-root
  cp -a --one-file-system /boot/. /run/one-root/boot/
  umount -R /boot
  umount /run/one-root
fi
grub-editenv - create # the boot menu itself is made with the sealed disk
