"""Progress: a plain log without a terminal, a live line on one; text is printed unchanged."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from mlflow_image import progress

#: Output of other programs that Rich would read as markup.
TEXTS = ["[red]", "Get:1 [42 kB]", "a [/b] c", "disk:bug:3"]

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output counts as a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress.out, "is_interactive", True)
    assert progress.out.is_terminal


def test_a_step_prints_its_start_its_end_and_its_time(capsys: Captured) -> None:
    with progress.step("Unpacking"):
        pass
    assert capsys.readouterr().out == ".. Unpacking\nok Unpacking (0.0 s)\n"


def test_phases_are_printed_and_kept_with_their_times(capsys: Captured) -> None:
    with progress.step("Baking") as step:
        step.phase("booting")
        step.phase("installing")
    assert [title for title, seconds in step.phases if seconds >= 0] == ["booting", "installing"]
    printed = capsys.readouterr().out
    assert "   - booting (0.0 s)\n   - installing (0.0 s)\nok Baking" in printed


def test_a_failed_step_does_not_print_ok(capsys: Captured) -> None:
    with pytest.raises(RuntimeError), progress.step("Baking") as step:
        step.phase("booting")
        raise RuntimeError
    assert capsys.readouterr().out == ".. Baking\n-- Baking did not finish (0.0 s, booting)\n"


def test_a_plain_log_gets_lines_while_the_work_prints_nothing(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.05)
    printed = ""
    with progress.step("Baking") as step:
        step.phase("compressing")
        deadline = time.monotonic() + 10
        while printed.count("   Baking (0 s) compressing\n") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            printed += capsys.readouterr().out


def test_the_seconds_of_a_live_line_continue_without_updates() -> None:
    def drawn(step: progress.Step) -> str:
        text = io.StringIO()
        Console(file=text).print(step)
        return text.getvalue().strip()

    step = progress.Step("Baking")
    step.started -= 5
    assert drawn(step) == "Baking (5 s)"
    step.started -= 5
    assert drawn(step) == "Baking (10 s)"


def test_a_plain_log_does_not_show_every_update(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.step("Fetching") as step:
        for number in range(100):
            step.update(f"file {number}")
        assert "file" not in capsys.readouterr().out
        monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
        step.update("file 100")
    assert "   Fetching (0 s) file 100\n" in capsys.readouterr().out


@pytest.mark.parametrize("text", TEXTS)
def test_output_of_other_programs_is_not_markup(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
    with progress.step(text) as step:
        step.update(text)
        step.phase(text)
    progress.say(text)
    assert capsys.readouterr().out.count(text) >= 5


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("text", TEXTS)
def test_a_live_line_is_not_markup_either(capsys: Captured, text: str) -> None:
    with progress.step(text) as step:
        step.update(text)
        progress.out.print("drawn")  # the live line is drawn again below it
    printed = capsys.readouterr().out
    assert f"{text} (0 s) {text}" in printed
    assert f"ok {text}" in printed


def test_a_warning_goes_to_standard_error(capsys: Captured) -> None:
    progress.warn("support ends soon")
    printed = capsys.readouterr()
    assert printed.err == "warning: support ends soon\n"
    assert printed.out == ""


def test_progress_can_be_printed_on_standard_error(capsys: Captured) -> None:
    with pytest.raises(RuntimeError), progress.on_stderr(), progress.step("Measuring"):
        progress.say("a figure")
        raise RuntimeError
    printed = capsys.readouterr()
    assert printed.err.splitlines()[:2] == [".. Measuring", "a figure"]
    assert printed.out == ""
    progress.say("afterwards")
    assert capsys.readouterr().out == "afterwards\n"


@pytest.mark.parametrize(
    ("typed", "expected"), [("", "`invoke up`"), ("scripts/invoke", "`scripts/invoke up`")]
)
def test_a_task_is_named_as_the_user_types_it(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, typed: str, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_IMAGE_INVOKE", typed)
    progress.say("no VM; `invoke up` makes one")
    assert capsys.readouterr().out == f"no VM; {expected} makes one\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999.4, "999 bytes"),
        (312_000_000, "312 MB"),
        (1_400_000_000, "1.4 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_sizes_have_decimal_units(count: float, text: str) -> None:
    assert progress.human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (42, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s")]
)
def test_durations_of_a_minute_or_more_have_minutes(seconds: float, text: str) -> None:
    assert progress.human_seconds(seconds) == text
