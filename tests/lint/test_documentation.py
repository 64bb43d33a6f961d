"""README and docs/: what they tell people to type is accepted, what they name is there."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from invoke.collection import Collection
from invoke.parser import Parser
from invoke.program import Program

from mlflow_image.inputs import definition
from mlflow_image.paths import HERE
from mlflow_image.tasks import namespace
from mlflow_settings import settings, userdata
from mlflow_settings.document import Faults

PAGES = [HERE.root / "README.md", *sorted((HERE.root / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
FLAG = re.compile(r"(?<!\S)--[a-z][a-z-]*")
#: Of Invoke itself, and of the image's own program.
OTHER_FLAGS = {"--list", "--check", "--apply"}
#: What running makes; no clone has it.
MADE = re.compile(r"(dist|\.mlflow-image|\.venv)(/|$)|docs/verified\.json$")
FILE_SUFFIX = re.compile(r"\.(yaml|yml|toml|md|txt|py|sh|j2|svg|json|modes)$")


def pages() -> list[tuple[str, str]]:
    """(name, text) of every page."""
    return [(str(page.relative_to(HERE.root)), page.read_text()) for page in PAGES]


def blocks(kind: str) -> list[tuple[str, str]]:
    """(page, content) of the fenced blocks of one kind."""
    return [
        (name, found[2])
        for name, text in pages()
        for found in FENCE.finditer(text)
        if found[1] == kind
    ]


def inline() -> list[tuple[str, str]]:
    """(page, code) of everything in single backquotes."""
    return [
        (name, found[1]) for name, text in pages() for found in INLINE.finditer(FENCE.sub("", text))
    ]


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words behind `invoke`) of everything that is to be typed."""
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
    """A copy: Invoke takes a flag's help away from its task while it reads it."""
    return copy.deepcopy(namespace())


@cache
def parser() -> Parser:
    """What Invoke itself reads its command line with."""
    return Parser(contexts=tasks().to_contexts(), initial=Program().initial_context)


def test_every_command_that_is_named_is_accepted_with_its_flags() -> None:
    found = list(commands())
    assert len(found) > 30, "the pages are full of commands"
    assert {page for page, _ in found} >= {"README.md", "docs/building.md"}
    for page, words in found:
        try:
            parser().parse_argv(words)
        except Exception as error:
            pytest.fail(f"{page}: invoke {shlex.join(words)}: {error}")


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for words in (["build-imgae"], ["up", "--nmae", "b"], ["--lits"]):
        with pytest.raises(Exception, match=r"No idea what|unknown|did not receive"):
            parser().parse_argv(words)


def test_every_flag_that_is_named_alone_belongs_to_a_task() -> None:
    known = OTHER_FLAGS | {name for found in tasks().tasks.values() for name in flags_of(found)}
    named = [(page, flag) for page, text in inline() for flag in FLAG.findall(text)]
    assert len(named) > 10
    assert [(page, flag) for page, flag in named if flag not in known] == []


def flags_of(found: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}" for a in found.get_arguments() for name in a.names]


def test_every_task_is_explained_somewhere() -> None:
    typed = {word for _, words in commands() for word in words}
    assert set(tasks().task_names) <= typed


def test_every_settings_example_is_sound() -> None:
    examples = blocks("yaml")
    assert {page for page, _ in examples} >= {"README.md", "docs/settings.md"}
    for page, text in examples:
        settings.check(text, page)


def test_the_message_that_is_shown_is_the_one_that_comes() -> None:
    shown = [text for page, text in blocks("") if "mlflow-configure: settings.yaml" in text]
    assert len(shown) == 1
    with pytest.raises(Faults) as caught:
        settings.check("schema_version: 1\nserver:\n  prot: 8001\n", "settings.yaml")
    assert f"mlflow-configure: {caught.value}\n" in shown[0]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| (?:`([^`]*)`)? *\|", page("docs/settings.md"), re.M)
    documented = {key: yaml.safe_load(default) if default else None for key, default in rows}
    schema = settings.own_schema()["properties"]
    expected = {"schema_version": None}
    for block, content in schema.items():
        for key, value in content.get("properties", {}).items():
            expected[f"{block}.{key}"] = value["default"]
    assert documented == expected


def page(name: str) -> str:
    return (HERE.root / name).read_text()


def test_ready_made_user_data_is_sound() -> None:
    ready = sorted((HERE.root / "cloud-init").glob("*.yaml"))
    assert ready
    for file in ready:
        found = userdata.read(file.read_bytes(), file.name)
        assert found.settings is not None
        settings.check(found.settings, file.name)


def test_the_default_definition_has_every_key() -> None:
    written = yaml.safe_load(page("image.yaml"))
    known = definition.schema()["properties"]
    assert set(written) == set(known)
    assert set(written["python"]) == set(known["python"]["properties"])


def test_every_path_and_link_leads_somewhere() -> None:
    found = [
        (name, HERE.root / name, link.split("#")[0])
        for name, text in pages()
        for link in re.findall(r"\]\(([^)]+)\)", text)
        if "://" not in link
    ]
    found += [(name, HERE.root / "README.md", text) for name, text in inline() if is_path(text)]
    assert len(found) > 20
    missing = [
        (name, path)
        for name, base, path in found
        if not (base.parent / path).exists() and not MADE.match(path.removeprefix("../"))
    ]
    assert missing == []


def is_path(code: str) -> bool:
    """Whether inline code means a file or folder of the checkout."""
    if re.search(r"[\s<>*=:]", code) or code.startswith(("/", "~", "-", "$")):
        return False
    return "/" in code or bool(FILE_SUFFIX.search(code))


def test_every_variable_that_is_named_is_read_somewhere() -> None:
    named = {name for _, text in pages() for name in re.findall(r"\bMLFLOW_IMAGE_[A-Z]+\b", text)}
    files = [*(HERE.root / "mlflow_image").rglob("*.py"), HERE.root / "scripts" / "invoke"]
    code = "".join(file.read_text() for file in files)
    assert named
    assert {name for name in named if name not in code} == set()


def test_every_library_that_is_explained_is_a_dependency() -> None:
    rows = re.findall(r"^\| ([a-z][a-z0-9., -]*) \|", page("docs/contributing.md"), re.MULTILINE)
    libraries = {name.strip() for row in rows for name in row.split(",")} - {"library"}
    assert len(libraries) > 10
    project = page("pyproject.toml")
    assert [name for name in libraries if not re.search(rf'"{re.escape(name)}[">]', project)] == []
