"""fallback-network: DHCP exactly if no .network file fits a network card."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
SCRIPT = CHECKOUT / "image_files/usr/lib/mlflow-image/fallback-network"
FALLBACK = "usr/share/mlflow-image/fallback.network"
NETPLAN = "[Match]\nPermanentMACAddress=52:54:00:12:34:56\nName=enp0s3\n\n[Network]\nDHCP=yes\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one card, ens9, and its fallback file."""
    card = tmp_path / "sys/class/net/ens9"
    card.mkdir(parents=True)
    (card / "address").write_text("52:54:00:ab:cd:ef\n")
    (tmp_path / FALLBACK).parent.mkdir(parents=True)
    (tmp_path / FALLBACK).write_bytes((CHECKOUT / "image_files" / FALLBACK).read_bytes())
    return tmp_path


def used(root: Path, configuration: str, folder: str = "run") -> bool:
    """Whether the fallback is used with this .network file."""
    if configuration:
        file = root / folder / "systemd/network/10-netplan-enp0s3.network"
        file.parent.mkdir(parents=True)
        file.write_text(configuration)
    subprocess.run([SCRIPT, root], check=True)
    return (root / "run/systemd/network/99-mlflow-image-fallback.network").exists()


def test_without_a_configuration_the_cards_use_dhcp(root: Path) -> None:
    assert used(root, "")


def test_a_configuration_for_another_card_does_not_prevent_dhcp(root: Path) -> None:
    assert used(root, NETPLAN)


@pytest.mark.parametrize(
    "match",
    [
        "MACAddress=52:54:00:AB:CD:EF",
        "PermanentMACAddress=52:54:00:ab:cd:ef\nName=renamed",
        "Name=ens9",
        "Name=eth* ens*",
        "Type=ether",
        "",
    ],
)
@pytest.mark.parametrize("folder", ["run", "etc"])
def test_a_configuration_that_fits_a_card_stays_alone(root: Path, match: str, folder: str) -> None:
    assert not used(root, f"[Match]\n{match}\n[Network]\nDHCP=no\n", folder)


@pytest.mark.parametrize("match", ["Name=eth0", "MACAddress=52:54:00:12:34:56", "Name=en?"])
def test_a_configuration_that_fits_no_card_is_not_enough(root: Path, match: str) -> None:
    assert used(root, f"[Match]\n{match}\n[Link]\nMACAddress=52:54:00:ab:cd:ef\n")


def test_one_card_of_two_that_is_configured_is_enough(root: Path) -> None:
    other = root / "sys/class/net/enp0s3"
    other.mkdir()
    (other / "address").write_text("52:54:00:12:34:56\n")
    assert not used(root, NETPLAN)
