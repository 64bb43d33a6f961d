"""The flags of the build tasks: unknown and contradictory values are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from invoke.config import Config
from invoke.context import Context

from mlflow_image.builder import keys
from mlflow_image.errors import Refusal
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE
from mlflow_image.tasks import image
from mlflow_image.tasks.task import whole_number


@pytest.mark.parametrize(
    ("flag", "value", "choices"),
    [("firmware", "coreboot", image.BUILD_FIRMWARES), ("rebuild", "pyhton", ("", *keys.NAMES))],
)
def test_an_unknown_value_is_refused_with_the_known_ones(
    flag: str, value: str, choices: tuple[str, ...]
) -> None:
    with pytest.raises(Refusal, match=f"--{flag} {value}: unknown") as caught:
        image.refuse_unknown(flag, value, choices)
    assert caught.value.remedy == f"use {', '.join(choices).removeprefix(', ')}"


def test_every_layer_can_be_rebuilt_by_its_name(make_inputs: Callable[..., Inputs]) -> None:
    assert [layer.name for layer in keys.of(make_inputs())] == list(keys.NAMES)


@pytest.mark.parametrize(
    ("offline", "refresh", "no_refresh"), [(True, True, False), (False, True, True)]
)
def test_flags_that_contradict_each_other_are_refused(
    offline: bool, refresh: bool, no_refresh: bool
) -> None:
    with pytest.raises(Refusal, match="--refresh contradicts"):
        image.freshness(offline, refresh, no_refresh)


def test_the_mirror_can_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Invoke reads a variable only if a configuration file has its key.
    monkeypatch.setenv("INVOKE_APT_MIRROR", "http://mirror.example/ubuntu")
    config = Config(project_location=str(HERE.root))
    config.load_project()
    assert config["apt_mirror"] == ""
    config.load_shell_env()
    assert image.mirror(Context(config)) == "http://mirror.example/ubuntu"


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "", "9" * 10])
def test_a_value_that_is_not_a_whole_number_is_refused_with_its_flag(text: str) -> None:
    with pytest.raises(Refusal, match="--days"):
        whole_number("days", text)
