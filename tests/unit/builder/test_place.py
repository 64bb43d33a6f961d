"""A place: scratch space that goes with its process, logs that stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.builder.place import scratch, workplace
from mlflow_image.errors import Failure
from mlflow_image.host import processes
from mlflow_image.paths import Checkout
from mlflow_image.progress import Step
from mlflow_image.vm.paused import Paused


def test_the_scratch_space_is_private_owned_and_removed_at_the_end(
    step: Step, tmp_path: Path
) -> None:
    with workplace("base", step, Checkout(tmp_path)) as place:
        assert place.work.stat().st_mode & 0o777 == 0o700
        assert processes.has_living_owner(place.work)
        assert place.result.is_dir()
        assert place.logs.is_relative_to(tmp_path / ".mlflow-image" / "logs")
    assert list(scratch().iterdir()) == []
    assert place.logs.is_dir()


def test_two_builds_of_one_layer_have_two_places(step: Step, tmp_path: Path) -> None:
    with (
        workplace("base", step, Checkout(tmp_path)) as one,
        workplace("base", step, Checkout(tmp_path / "other")) as two,
    ):
        assert one.work != two.work


@pytest.mark.parametrize(
    ("error", "kept"),
    [(Failure("a step failed"), True), (Paused("a quota"), False), (KeyboardInterrupt(), False)],
)
def test_a_failure_may_keep_it_for_inspection_but_ctrl_c_and_a_paused_vm_never_do(
    step: Step, tmp_path: Path, error: BaseException, kept: bool
) -> None:
    with (
        pytest.raises(type(error)),
        workplace("base", step, Checkout(tmp_path), keep_on_error=True) as place,
    ):
        raise error
    assert place.work.exists() == kept
