"""Which packages `invoke test` would install for the tests with real peers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlflow_image.tasks import tests


def test_only_packages_whose_program_is_absent_are_missing(tmp_path: Path) -> None:
    listed = tmp_path / "packages.txt"
    listed.write_text(
        "# comment\n\n/bin/s*  shell  there\nsh  other  there, too\n"
        "/no/such/*/program  first  reason\nno-such-program  second  reason\n"
    )
    assert tests.missing_packages(listed) == ["first", "second"]


def test_without_root_the_packages_are_named_and_the_tests_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(tests, "missing_packages", lambda _: ["postgresql"])
    tests.install_peers(full=False)
    shown = "".join(capsys.readouterr())
    assert "tests with real peers are skipped" in shown
    assert "apt-get install -y --no-install-recommends postgresql" in shown
