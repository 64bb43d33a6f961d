"""tasks.task: errors end as one message on standard error and an exit code, without a traceback."""

from __future__ import annotations

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.errors import Failure, Refusal
from mlflow_image.tasks import namespace
from mlflow_image.tasks.task import task

ENDINGS = [
    (Refusal("no such system", remedy="choose another"), 2, "error: no such system\nWhat to do:"),
    (
        Failure("it broke [here]", evidence="last line"),
        1,
        "error: it broke [here]\n\n    last line",
    ),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(
    ("error", "code", "message"), ENDINGS, ids=["refusal", "failure", "ctrl-c"]
)
def test_an_error_is_a_message_and_an_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @task()
    def failing(context: Context) -> None:
        raise error

    with pytest.raises(Exit) as caught:
        failing(Context())
    assert caught.value.code == code
    said = capsys.readouterr()
    assert said.err.startswith(message)
    assert said.out == ""


def test_every_task_and_every_flag_has_help() -> None:
    tasks = namespace().tasks
    assert {"build-image", "plan", "fetch", "up", "smoke-test", "test"} <= set(tasks)
    for name, found in tasks.items():
        assert found.__doc__, f"{name} has no help"
        missing = [argument.name for argument in found.get_arguments() if not argument.help]
        assert not missing, f"{name}: flags without help: {missing}"
