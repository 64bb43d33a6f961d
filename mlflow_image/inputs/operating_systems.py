"""The operating systems that an image can contain, one row of data for each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Keyring:
    """The archive's signing keys: from a package on the host, or from a .deb pinned by hash."""

    package: str
    #: Path of the keyring in the package.
    path: str
    #: Path of the .deb below the archive's root; empty when only the host can provide the keys.
    deb_path: str = ""
    deb_sha256: str = ""


@dataclass(frozen=True)
class OperatingSystem:
    """The differences between operating systems; all other code is shared."""

    name: str
    suite: str
    version: str
    #: Components of the image's own apt sources.
    components: tuple[str, ...]
    #: Version of the distribution's own python3, such as 3.10; part of the lock file's name.
    python: str
    kernel: str
    #: Packages in addition to COMMON_PACKAGES.
    packages: tuple[str, ...]
    keyring: Keyring
    #: Paths of the signed shim in the root tree; the first that exists is used.
    shim: tuple[str, ...]
    grub_efi: str
    #: Directory below /EFI for shim and GRUB; the signed GRUB looks there for its grub.cfg.
    efi_vendor: str
    #: The user that cloud-init creates in the guest.
    login: str
    #: End of the vendor's free security support.
    support_ends: date


#: Packages of every image; `apt` is listed because a minimal tree does not contain it.
COMMON_PACKAGES = (
    "apt",
    "ca-certificates",
    "certbot",  # certificates of Let's Encrypt and others (tls.acme)
    "cloud-guest-utils",
    "cloud-init",
    "cloud-initramfs-growroot",
    "dbus",
    "dirmngr",  # with gpg: cloud-init's `apt: sources: keyid`
    "fdisk",  # growroot needs sfdisk; a dependency takes gdisk instead of it
    "gdisk",  # cloud-init's disk_setup makes GPT tables with sgdisk
    "gpg",  # cloud-init's `apt: sources: key`
    "grub-efi-amd64-bin",
    "grub-efi-amd64-signed",
    "grub-pc",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "isc-dhcp-client",
    "krb5-user",  # kinit and klist, to look into the Kerberos of a Hadoop cluster
    "less",
    "libgssapi-krb5-2",  # hdfs-native opens it when a cluster asks for Kerberos
    "locales",  # cloud-init would install it over the network at the first boot
    "logrotate",  # for the logs outside the journal: btmp, wtmp, apt, cloud-init
    "lsb-release",  # without it cloud-init writes apt sources for a suite "UNAVAILABLE"
    "lz4",  # an lz4 initramfs boots 1.3 s faster than a zstd one (TCG)
    "netplan.io",
    "openssh-server",
    "python3",
    "python3-jsonschema",
    "python3-yaml",
    "shim-signed",
    "sudo",
    "systemd-sysv",
    "systemd-timesyncd",
    "tar",
    "udev",
    "unattended-upgrades",
    "xz-utils",
    "zstd",
)

#: Version 2021.03.26; its key F6EC B376 2474 EDA9 D21B 7022 8719 20D1 991B C93C signs both systems.
UBUNTU_KEYRING = Keyring(
    package="ubuntu-keyring",
    path="usr/share/keyrings/ubuntu-archive-keyring.gpg",
    deb_path="pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb",
    deb_sha256="0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f",
)

OPERATING_SYSTEMS = {
    row.name: row
    for row in (
        OperatingSystem(
            name="ubuntu-22.04",
            suite="jammy",
            version="22.04",
            components=("main", "universe"),
            python="3.10",
            kernel="linux-image-virtual",
            packages=("nginx-light", "ubuntu-keyring"),
            shim=("usr/lib/shim/shimx64.efi.signed.latest", "usr/lib/shim/shimx64.efi.signed"),
            grub_efi="usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
            efi_vendor="ubuntu",
            login="ubuntu",
            support_ends=date(2027, 4, 1),
            keyring=UBUNTU_KEYRING,
        ),
        OperatingSystem(
            name="ubuntu-24.04",
            suite="noble",
            version="24.04",
            components=("main", "universe"),
            python="3.12",
            kernel="linux-image-virtual",
            packages=("nginx", "ubuntu-keyring", "systemd-resolved"),
            shim=("usr/lib/shim/shimx64.efi.signed.latest", "usr/lib/shim/shimx64.efi.signed"),
            grub_efi="usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
            efi_vendor="ubuntu",
            login="ubuntu",
            support_ends=date(2029, 4, 1),
            keyring=UBUNTU_KEYRING,
        ),
        OperatingSystem(
            name="debian-12",
            suite="bookworm",
            version="12",
            components=("main",),
            python="3.11",
            kernel="linux-image-cloud-amd64",
            packages=("debian-archive-keyring", "nginx", "systemd-resolved"),
            keyring=Keyring(
                package="debian-archive-keyring",
                path="usr/share/keyrings/debian-archive-keyring.gpg",
            ),
            shim=("usr/lib/shim/shimx64.efi.signed",),
            grub_efi="usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
            efi_vendor="debian",
            login="debian",
            support_ends=date(2028, 6, 30),
        ),
    )
}

#: Builds print a warning from this many days before the end of support.
WARN_DAYS = 180


def support_warning(system: OperatingSystem, today: date) -> str | None:
    """A warning when the system's security support has ended or ends soon, else None."""
    left = (system.support_ends - today).days
    if left < 0:
        return f"support of {system.name} ended on {system.support_ends}; choose a newer --os"
    if left <= WARN_DAYS:
        return f"support of {system.name} ends on {system.support_ends}, in {left} days"
    return None
