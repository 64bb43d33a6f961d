#!/usr/bin/env bash
# layer: image-files
# Copies image_files/ over the root; creates the users and folders that they declare.
set -euo pipefail
umask 022
export SOURCE_DATE_EPOCH

# Reads every file into memory: otherwise reading takes half of the handover (emulated).
{ find / -xdev -type f -print0 | xargs -0 -r cat; } < /dev/null > /dev/null 2>&1 &

echo ":: copying image_files over the root"
tar -C / --no-overwrite-dir --numeric-owner -p -xf "$PAYLOAD/image_files.tar"
install -m 0644 "$PAYLOAD/mlflow-image.json" /etc/mlflow-image.json

echo ":: users, folders, bytecode"
systemd-sysusers
systemd-tmpfiles --create --prefix=/var/lib --prefix=/etc
# For the system's Python (mlflow-configure) and for the server's, which may be another: neither
# may write bytecode there later. -B: do not compile the modules that compileall itself imports.
for python in $(realpath /usr/bin/python3 /opt/mlflow/bin/python | sort -u); do
  "$python" -B -m compileall -q --invalidation-mode unchecked-hash /usr/lib/mlflow-image
done
# These packages have no bytecode, so that the first boot of every clone would write it.
# checked-hash: after an upgrade of the packages, Python notices that the bytecode is stale.
for folder in /usr/share/netplan /usr/lib/python3/dist-packages/netplan; do
  if [ -d "$folder" ]; then
    /usr/bin/python3 -B -m compileall -q --invalidation-mode checked-hash "$folder"
  fi
done
# krb5-user brings a program that runs as root for everybody, which no server needs. dpkg keeps this
# over upgrades.
dpkg-statoverride --add --update root root 0755 /usr/bin/ksu
# The package of sshd creates every host key that this file names, or all types if it names none.
key=/etc/ssh/ssh_host_ed25519_key
sed -i "s|^#HostKey $key\$|HostKey $key|" /etc/ssh/sshd_config
grep -qx "HostKey $key" /etc/ssh/sshd_config || echo "HostKey $key" >> /etc/ssh/sshd_config
# Debian updates EFI/BOOT only if this is set; Ubuntu always does.
if debconf-show grub-pc | grep grub2/force_efi_extra_removable > /dev/null; then
  echo "grub-pc grub2/force_efi_extra_removable boolean true" | debconf-set-selections
fi
# A distribution that stays in the image: `conda` for everyone who logs in, as conda documents it
# for several users. The script only defines functions; the prompt stays as it is.
for hook in /opt/*3/etc/profile.d/conda.sh; do
  if [ -e "$hook" ]; then ln -s "$hook" /etc/profile.d/conda.sh; fi
done
# A vendor's cloud image finds its root by partition id, and Ubuntu 24.04 has a separate /boot
# partition; the sealed disk has a single root file system with other ids.
rm -f /etc/default/grub.d/40-force-partuuid.cfg
if mountpoint -q /boot; then
  mkdir -p /run/one-root
  mount --bind / /run/one-root
  cp -a --one-file-system /boot/. /run/one-root/boot/
  umount -R /boot
  umount /run/one-root
fi
grub-editenv - create # the boot menu is created with the sealed disk
