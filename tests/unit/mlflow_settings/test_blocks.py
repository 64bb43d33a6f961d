"""The blocks of the settings: all with one skeleton, each variable with one owner."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mlflow_settings
from mlflow_settings import blocks, render, settings
from mlflow_settings.blocks.block import Block, Machine

PACKAGE = Path(mlflow_settings.__file__).parent


def block_classes() -> dict[str, type[Block]]:
    """Every class that derives from Block, by the module of blocks/ that defines it."""
    found = {}
    for module in pkgutil.iter_modules(blocks.__path__):
        loaded = importlib.import_module(f"{blocks.__name__}.{module.name}")
        for kind in [value for value in vars(loaded).values() if isinstance(value, type)]:
            is_block = issubclass(kind, Block) and kind is not Block
            if is_block and kind.__module__ == loaded.__name__:
                found[module.name] = kind
    return found


def test_every_block_is_registered_under_the_name_of_its_module() -> None:
    assert block_classes() == settings.BLOCKS
    assert set(settings.BLOCKS) | {"schema_version"} == set(settings.own_schema()["properties"])


@pytest.mark.parametrize("kind", settings.BLOCKS.values(), ids=settings.BLOCKS)
def test_every_block_has_the_whole_skeleton(kind: type[Block]) -> None:
    assert {"faults", "environment", "OWNED"} <= set(vars(kind))
    default = kind()
    assert dataclasses.is_dataclass(default)
    name = dataclasses.fields(default)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(default, name, None)
    assert list(kind.faults(dataclasses.asdict(default))) == []
    assert list(kind.faults({"unknown": 1, name: None})) == []


def test_every_variable_has_at_most_one_owner() -> None:
    owners = Counter(name for kind in settings.BLOCKS.values() for name in kind.OWNED)
    assert [name for name, count in owners.items() if count > 1] == []


def test_a_block_renders_only_variables_that_it_owns() -> None:
    for block in settings.Settings().blocks:
        assert set(block.environment(Machine(("10.0.2.15",)))) <= set(block.OWNED)


def test_every_rendered_variable_is_owned_or_is_a_default_that_may_be_changed() -> None:
    rendered = render.environment(settings.Settings(), Machine(("10.0.2.15",)))
    assert set(rendered) - set(settings.OWNED) == set(render.DEFAULTS)


def test_an_owned_variable_names_a_setting_that_exists() -> None:
    for setting in settings.OWNED.values():
        here = settings.own_schema()
        for key in setting.split("."):
            here = here["properties"][key]


GREETING = """
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mlflow_settings.blocks.block import Block, Given, Machine
from mlflow_settings.wording import Worded


@dataclass(frozen=True)
class Greeting(Block):
    word: str = "hello"
    OWNED: ClassVar[Mapping[str, str]] = {"GREETING": "greeting.word"}

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        if given.get("word") == "bye":
            yield Worded(("word",), "is no greeting", "", "greet")

    def environment(self, machine: Machine) -> Mapping[str, str]:
        return {"GREETING": self.word}
"""
USE_GREETING = """
import json, sys
from mlflow_settings import render, settings
from mlflow_settings.document import Faults

schema = json.loads(json.dumps(settings.own_schema()))
schema["properties"]["greeting"] = {"properties": {"word": {"type": "string"}}}
for text in sys.argv[1:]:
    try:
        print(render.environment(settings.check(text, "x", schema))["GREETING"])
    except Faults as refused:
        print(refused)
"""


def test_a_new_block_is_one_module_and_one_field(tmp_path: Path) -> None:
    copy = tmp_path / "mlflow_settings"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "blocks/greeting.py").write_text(GREETING)
    registry = (copy / "settings.py").read_text()
    last = "    artifact_store: ArtifactStore = field(default_factory=ArtifactStore)\n"
    assert registry.count(last) == 1
    field = "    greeting: Greeting = field(default_factory=Greeting)\n"
    imported = "from mlflow_settings.blocks.greeting import Greeting\n\n\n"
    registry = registry.replace(last, last + field).replace(
        "@dataclass(frozen=True)\nclass Settings",
        imported + "@dataclass(frozen=True)\nclass Settings",
    )
    (copy / "settings.py").write_text(registry)
    texts = [
        "greeting: {word: hi}",
        "greeting: {word: bye}",
        "server: {extra_environment: {GREETING: x}}",
    ]
    done = subprocess.run(
        [sys.executable, "-B", "-c", USE_GREETING, *(f"schema_version: 1\n{t}" for t in texts)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.splitlines() == [
        "hi",
        "x:2: greeting.word: is no greeting; greet",
        "x:2: server.extra_environment.GREETING: is set by another setting; use greeting.word",
    ]
