"""Ports on 127.0.0.1: which are free, which process uses the others, what QEMU forwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.vm import ports

USERNET = """\
Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   31       127.0.0.1 45000       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  13       127.0.0.1 39161       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  14       127.0.0.1  8123       10.0.2.15  8000     0     0
  UDP[236 sec]       25       10.0.2.15 68           10.0.2.2    67     0     0
"""


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_busy_port_is_reported_with_its_process(busy: int) -> None:
    why = ports.why_unusable(busy)
    assert why.startswith(f"port {busy} is in use by ")
    assert "pid" in why


def test_a_free_port_is_usable_and_one_out_of_range_is_not() -> None:
    assert ports.why_unusable(free_port()) == ""
    assert "out of range" in ports.why_unusable(65536)


def test_only_forwarded_ports_are_read_from_qemu() -> None:
    assert ports.forwarded(USERNET) == {22: 39161, 8000: 8123}


def test_a_requested_port_is_preferred_to_the_last_one() -> None:
    requested, last = free_port(), free_port()
    assert ports.choose({8000: requested}, {8000: last}) == {8000: requested}


def test_the_last_port_is_kept_only_while_it_is_free(busy: int) -> None:
    last = free_port()
    assert ports.choose({22: 0, 8000: 0}, {22: busy, 8000: last}) == {22: 0, 8000: last}


def test_a_requested_port_that_is_busy_is_refused(busy: int) -> None:
    with pytest.raises(Refusal, match=str(busy)):
        ports.choose({8000: busy}, {})
