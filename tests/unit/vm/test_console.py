"""The serial console: what is read from real excerpts of boots, in console_cases/."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mlflow_image.vm import console

CASES = Path(__file__).parent / "console_cases"


def text_of(name: str) -> str:
    return console.clean((CASES / f"{name}.log").read_text(errors="replace"))


@pytest.mark.parametrize(
    ("case", "stage"),
    [
        ("nothing-to-boot", "the boot loader"),
        ("systemd-bios", "systemd"),
        ("cloud-init-secureboot", "cloud-init"),
    ],
)
def test_the_stage_is_the_last_one_that_the_console_shows(case: str, stage: str) -> None:
    assert console.stage(text_of(case)) == stage


def test_a_silent_console_means_the_firmware() -> None:
    assert console.stage("") == "the firmware"


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ("panic", "kernel panicked"),
        ("emergency", "emergency mode"),
        ("initramfs", "no root filesystem"),
        ("nothing-to-boot", "nothing to boot"),
    ],
)
def test_a_dead_end_is_reported_with_the_guests_lines(case: str, what: str) -> None:
    end = console.dead_end(text_of(case))
    assert end is not None
    assert what in end.what
    assert end.evidence
    assert all(line in text_of(case) for line in end.evidence.splitlines())


@pytest.mark.parametrize("case", ["systemd-bios", "cloud-init-secureboot"])
def test_a_boot_that_continues_is_not_a_dead_end(case: str) -> None:
    assert console.dead_end(text_of(case)) is None


def test_escape_sequences_and_carriage_returns_are_removed() -> None:
    assert console.clean("\x1b[0;1;31mFAILED\x1b[0m\r\n\x1b[2J\x1b(Bnext\x00") == "FAILED\nnext"


def test_reading_begins_at_the_offset_of_the_current_boot(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"old boot\nnew boot\n")
    assert console.read(tmp_path, 9) == "new boot\n"
    assert console.size_bytes(tmp_path) == 18
    assert console.read(tmp_path / "nowhere") == ""


def test_later_lines_are_followed_and_never_split(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("first\nsec")
    calls = iter([True, False])

    def go_on() -> bool:
        more = next(calls)
        if not more:
            with log.open("a") as file:
                file.write("ond\nthird")
        return more

    assert list(console.lines(tmp_path, go_on)) == ["first", "second", "third"]


def test_typed_keys_are_sent_to_the_guest_until_the_exit_key() -> None:
    ours, guests = socket.socketpair()
    typed_read, typed_write = os.pipe()
    shown_read, shown_write = os.pipe()
    with ours, guests:
        os.write(typed_write, b"ls\r" + console.LEAVE + b"never sent")
        console.relay(ours, typed_read, shown_write)
        assert guests.recv(100) == b"ls\r"
        guests.sendall(b"hello")
        guests.close()
        console.relay(ours, typed_read, shown_write)
        assert os.read(shown_read, 100) == b"hello"
    for descriptor in (typed_read, typed_write, shown_read, shown_write):
        os.close(descriptor)
