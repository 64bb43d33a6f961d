"""progress: a plain log without a terminal, a live line on one; text is shown as it is."""

from __future__ import annotations

import io
import time

import pytest

from mlflow_image import progress

#: What other programs print, and Rich would read as its own marks.
TEXTS = ["[red]", "Get:1 [42 kB]", "a [/b] c", "disk:bug:3"]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(progress.out, "_file", text)  # `file` would not be undone
    return text


@pytest.fixture
def terminal(plain: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(progress.out, "_force_terminal", True)
    monkeypatch.setattr(progress.out, "_width", 100)
    monkeypatch.setattr(progress.out, "is_interactive", True)
    monkeypatch.setenv("TERM", "xterm")
    return plain


def test_a_step_says_its_beginning_its_end_and_its_time(plain: io.StringIO) -> None:
    with progress.step("Unpacking"):
        pass
    assert plain.getvalue() == ".. Unpacking\nok Unpacking (0.0 s)\n"


def test_phases_are_printed_and_kept_with_their_times(plain: io.StringIO) -> None:
    with progress.step("Baking") as step:
        step.phase("booting")
        step.phase("installing")
    assert [title for title, seconds in step.phases if seconds >= 0] == ["booting", "installing"]
    assert "   - booting (0.0 s)\n   - installing (0.0 s)\nok Baking" in plain.getvalue()


def test_a_failed_step_does_not_say_ok(plain: io.StringIO) -> None:
    with pytest.raises(RuntimeError), progress.step("Baking") as step:
        step.phase("booting")
        raise RuntimeError
    assert plain.getvalue() == ".. Baking\n-- Baking did not finish (0.0 s, booting)\n"


def test_silent_work_is_heard_of_in_a_plain_log(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.05)
    with progress.step("Baking") as step:
        step.phase("compressing")
        deadline = time.monotonic() + 10
        while plain.getvalue().count("   Baking (0 s) compressing\n") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_seconds_of_a_live_line_go_on_in_silence() -> None:
    step = progress.Step("Baking")
    step.started -= 5
    assert str(step.__rich__()) == "Baking (5 s) "
    step.started -= 5
    assert str(step.__rich__()) == "Baking (10 s) "


def test_a_plain_log_is_not_flooded(plain: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.step("Fetching") as step:
        for number in range(100):
            step.update(f"file {number}")
        assert "file" not in plain.getvalue()
        monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
        step.update("file 100")
    assert "   Fetching (0 s) file 100\n" in plain.getvalue()


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_program_prints_is_never_markup(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
    with progress.step(text) as step:
        step.update(text)
        step.phase(text)
    progress.say(text)
    assert plain.getvalue().count(text) >= 5


@pytest.mark.parametrize("text", TEXTS)
def test_a_live_line_is_never_markup_either(terminal: io.StringIO, text: str) -> None:
    with progress.step(text) as step:
        step.update(text)
        progress.out.print("drawn")  # the live line is drawn again below it
    assert f"{text} (0 s) {text}" in terminal.getvalue()
    assert f"ok {text}" in terminal.getvalue()


def test_a_warning_goes_to_standard_error(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    monkeypatch.setattr(progress.err, "_file", err)
    progress.warn("support ends soon")
    assert err.getvalue() == "warning: support ends soon\n"
    assert plain.getvalue() == ""


def test_standard_output_can_be_left_to_what_a_program_reads(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    monkeypatch.setattr(progress.err, "_file", err)
    with pytest.raises(RuntimeError), progress.on_stderr(), progress.step("Measuring"):
        progress.say("a figure")
        raise RuntimeError
    assert err.getvalue().splitlines()[:2] == [".. Measuring", "a figure"]
    assert plain.getvalue() == ""
    progress.say("afterwards")
    assert plain.getvalue() == "afterwards\n"


@pytest.mark.parametrize(
    ("typed", "said"), [("", "`invoke up`"), ("scripts/invoke", "`scripts/invoke up`")]
)
def test_a_task_is_named_as_the_user_types_it(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    monkeypatch.setenv("MLFLOW_IMAGE_INVOKE", typed)
    progress.say("no VM; `invoke up` makes one")
    assert plain.getvalue() == f"no VM; {said} makes one\n"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (999.4, "999 bytes"),
        (312_000_000, "312 MB"),
        (1_400_000_000, "1.4 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_sizes_are_said_in_decimal_units(count: float, said: str) -> None:
    assert progress.human_bytes(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (42, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert progress.human_seconds(seconds) == said
