"""README, docs/, examples/: commands and settings are accepted, and what is named exists."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.collection import Collection
from invoke.parser import Parser
from invoke.program import Program

from mlflow_image.inputs import definition
from mlflow_image.paths import HERE
from mlflow_image.tasks import namespace
from mlflow_settings import settings
from mlflow_settings.document import Faults
from tests.lint.pages import blocks, inline, pages, paths_in

FLAG = re.compile(r"(?<!\S)--[a-z][a-z-]*")
#: Flags of Invoke itself and of mlflow-configure.
OTHER_FLAGS = {"--list", "--check", "--apply"}
#: docs/contributing.md must have a row for each module below these folders.
EXPLAINED = ("mlflow_image", "image_files/usr/lib/mlflow-image")
#: Old-fashioned words and euphemisms; plain words say the same.
OLD_WORDS = re.compile(
    r"\b(anew|beside|mended|thereof|whoever|wherever|without a word|has a say|called so"
    r"|but for (?:the|what|its)|lets? us (?:not )?in|comes? to (?:its|their) end|lies? in)\b",
    re.IGNORECASE,
)


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, arguments of `invoke`) of every command that readers are asked to type."""
    names = set(tasks().task_names)
    for page, text in blocks(""):
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in ("invoke", "scripts/invoke"):
                yield page, words[1:]
    for page, text in inline():
        words = text.split()
        if words[0] in ("invoke", "scripts/invoke"):
            yield page, [word for word in words[1:] if word != "..."]
        elif words[0] in names:
            yield page, words


@cache
def tasks() -> Collection:
    """A copy of all tasks: Invoke removes the flags' help texts while it parses."""
    return copy.deepcopy(namespace())


@cache
def parser() -> Parser:
    """The parser that Invoke uses for its command line."""
    return Parser(contexts=tasks().to_contexts(), initial=Program().initial_context)


def test_every_command_is_accepted_with_its_flags() -> None:
    found = list(commands())
    assert len(found) > 30, "the pages contain many commands"
    assert {page for page, _ in found} >= {"README.md", "docs/building.md"}
    for page, words in found:
        try:
            parser().parse_argv(words)
        except Exception as error:
            pytest.fail(f"{page}: invoke {shlex.join(words)}: {error}")


def test_a_command_that_does_not_exist_is_detected() -> None:
    for words in (["build-imgae"], ["up", "--nmae", "b"], ["--lits"]):
        with pytest.raises(Exception, match=r"No idea what|unknown|did not receive"):
            parser().parse_argv(words)


def test_every_flag_belongs_to_a_task() -> None:
    known = OTHER_FLAGS | {name for found in tasks().tasks.values() for name in flags_of(found)}
    named = [(page, flag) for page, text in inline() for flag in FLAG.findall(text)]
    assert len(named) > 10
    assert [(page, flag) for page, flag in named if flag not in known] == []


def flags_of(found: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}" for a in found.get_arguments() for name in a.names]


def test_every_task_is_explained() -> None:
    typed = {word for _, words in commands() for word in words}
    assert set(tasks().task_names) <= typed


def test_every_settings_example_is_valid() -> None:
    examples = blocks("yaml")
    assert {page for page, _ in examples} >= {"README.md", "docs/settings.md"}
    for page, text in examples:
        settings.check(text, page)


def test_the_message_in_the_docs_is_the_real_one() -> None:
    shown = [text for page, text in blocks("") if "mlflow-configure: settings.yaml" in text]
    assert len(shown) == 1
    with pytest.raises(Faults) as caught:
        settings.check("schema_version: 1\nserver:\n  prot: 8001\n", "settings.yaml")
    assert f"mlflow-configure: {caught.value}\n" in shown[0]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| (?:`([^`]*)`)? *\|", page("docs/settings.md"), re.M)
    documented = {key: yaml.safe_load(default) if default else None for key, default in rows}
    assert documented == dict(leaves(settings.own_schema()))


def leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Every key that takes a value, with its default; a secret's `from_file` is not one."""
    for key, value in schema["properties"].items():
        if "properties" in value and value["type"] == "object":
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value.get("default")


def page(name: str) -> str:
    return (HERE.root / name).read_text()


def test_the_default_definition_has_every_key() -> None:
    written = yaml.safe_load(page("image.yaml"))
    known = definition.schema()["properties"]
    assert set(written) == set(known)
    assert set(written["python"]) == set(known["python"]["properties"])


def test_every_link_leads_to_a_file() -> None:
    links = [
        (name, link.split("#")[0])
        for name, text in pages()
        for link in re.findall(r"\]\(([^)]+)\)", text)
        if "://" not in link and not link.startswith("#")
    ]
    assert len(links) > 5
    assert [(name, link) for name, link in links if not file_of(name, link).exists()] == []


def file_of(name: str, link: str) -> Path:
    return (HERE.root / name).parent / link


def test_every_path_exists() -> None:
    found = [
        (name, path) for name, text in pages() for path in paths_in(text, (HERE.root / name).parent)
    ]
    assert len(found) > 100
    assert [(name, str(path)) for name, path in found if not (HERE.root / path).exists()] == []


def test_contributing_explains_every_module() -> None:
    modules = {
        file.relative_to(HERE.root)
        for folder in EXPLAINED
        for file in (HERE.root / folder).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert len(modules) > 50
    missing = modules - set(paths_in(page("docs/contributing.md")))
    assert sorted(map(str, missing)) == [], "each needs a row in docs/contributing.md"


def test_no_page_uses_old_fashioned_words() -> None:
    found = [(name, word[0]) for name, text in pages() for word in OLD_WORDS.finditer(text)]
    assert found == [], "write plain words: again, next to, except for, repaired, rejects"


def test_every_variable_is_read_by_our_code() -> None:
    named = {name for _, text in pages() for name in re.findall(r"\bMLFLOW_IMAGE_[A-Z]+\b", text)}
    files = [*(HERE.root / "mlflow_image").rglob("*.py"), HERE.root / "scripts" / "invoke"]
    code = "".join(file.read_text() for file in files)
    assert named
    assert {name for name in named if name not in code} == set()
