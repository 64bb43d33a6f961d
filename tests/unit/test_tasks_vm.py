"""The VM tasks' flags: numbers, sizes and choices are refused in words."""

from __future__ import annotations

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.tasks import vm


@pytest.mark.parametrize(
    ("text", "size"), [("20G", 20 << 30), ("512m", 512 << 20), ("1 TiB", 1 << 40), ("8GB", 8 << 30)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert vm.size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "20", "G", "-1G", "1.5G", "20X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="--disk"):
        vm.size_bytes(text)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", ""])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="--port"):
        vm.port_number(text)


def test_an_unknown_firmware_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match="coreboot") as refusal:
        vm.firmware_name("coreboot")
    assert "secureboot" in refusal.value.remedy


def test_columns_are_aligned_and_never_cut() -> None:
    rows = [("name", "image"), ("a-long-name", "i" * 200)]
    assert list(vm.columns(rows)) == ["name         image", "a-long-name  " + "i" * 200]
