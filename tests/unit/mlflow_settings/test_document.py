"""Documents: strict YAML, and all faults at once with their lines, for any schema."""

from __future__ import annotations

import pytest

from mlflow_settings.document import MAX_BYTES, Faults, load

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "os": {"enum": ["ubuntu-22.04", "ubuntu-24.04", "debian-12"]},
        "size": {"type": "integer", "minimum": 4, "x-remedy": "at least 4"},
        "secrets": {"x-secret": True, "type": "object", "additionalProperties": {"type": "string"}},
    },
}


def faults_of(text: str) -> list[str]:
    return [str(fault) for fault in load(text, "image.yaml").check(SCHEMA)]


def refusal(text: str) -> str:
    with pytest.raises(Faults) as refused:
        load(text, "image.yaml")
    return str(refused.value)


def test_a_valid_document_has_no_faults_and_plain_data() -> None:
    document = load("name: x\nsize: 8\nsecrets: {A: b}\n", "image.yaml")
    assert document.check(SCHEMA) == []
    assert document.data == {"name": "x", "size": 8, "secrets": {"A": "b"}}


def test_every_path_has_its_line() -> None:
    document = load("name: x\n\nsecrets:\n  A: b\n  L:\n    - c\n", "image.yaml")
    lines = [document.line(path) for path in [("name",), ("secrets", "A"), ("secrets", "L", 0)]]
    assert lines == [1, 4, 6]
    assert document.line(("secrets", "not there", 3)) == 3


def test_all_faults_are_reported_at_once() -> None:
    assert faults_of("nam: x\nos: ubuntu-2204\nsize: 1\n") == [
        'image.yaml:1: nam: unknown key; did you mean "name"?',
        "image.yaml:1: name: is missing; add it",
        'image.yaml:2: os: is "ubuntu-2204", not one of the choices; did you mean "ubuntu-22.04"?',
        "image.yaml:3: size: is 1, less than 4; at least 4",
    ]


def test_a_value_unlike_any_choice_lists_all_choices() -> None:
    assert "choose one of ubuntu-22.04, ubuntu-24.04, debian-12" in faults_of("name: x\nos: 5\n")[0]


def test_secrets_are_not_shown_at_any_depth() -> None:
    document = load("name: x\nsecrets: {A: 123456, B: [hush]}\n", "image.yaml")
    faults = document.check(SCHEMA)
    assert [fault.value for fault in faults] == ["", ""]
    assert not any("123456" in str(fault) or "hush" in str(fault) for fault in faults)


def test_everything_but_a_few_words_and_numbers_is_text() -> None:
    text = "a: true\nb: null\nc: 5\nd: 1.5\ne: yes\nf: 012\ng: 1:30\nh: 0x1F\ni: '5'\nj: 1_0\n"
    data = load(text, "x").data
    assert list(data.values()) == [
        *(True, None, 5, 1.5),
        *("yes", "012", "1:30", "0x1F", "5", "1_0"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "a: is a duplicate key, first in line 1"),
        ("a: &x [1]\nb: *x\n", "alias"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
        ("a: !custom x\n", "tag"),
        ("? [1, 2]\n: x\n", "a key that is not text"),
        ("a: b: c\n", "not YAML"),
        ("a: 'open\n", "not YAML"),
        ("a: \x07\n", "a character that YAML does not allow"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("- " * 3000, "nested too deeply"),
        ("a: x\n" + "#" * MAX_BYTES, "bytes long"),
    ],
)
def test_yaml_that_is_ambiguous_or_broken_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize("text", ["a: *hush-hush\n", "a: &hush-hush\nb: *hushhush\n", "%hush x\n"])
def test_syntax_errors_do_not_quote_what_may_be_a_password(text: str) -> None:
    assert "hush" not in refusal(text)


def test_an_alias_bomb_is_refused_at_the_first_alias() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))]
    assert "alias" in refusal("\n".join(lines))


def test_an_invalid_schema_is_an_error_of_the_program() -> None:
    with pytest.raises(ValueError, match="schema"):
        load("name: x\n", "image.yaml").check({"type": "no such type"})


@pytest.mark.parametrize("levels", [45, 250, 300, 360, 5000, 30_000])
@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_deep_nesting_is_refused_in_the_same_words_at_every_depth(
    bracket: str, levels: int
) -> None:
    text = f"name: {bracket * levels}"
    closed = text + {"[": "]", "{a: ": "}"}[bracket] * levels
    assert "is nested too deeply, more than 40 levels; use fewer levels" in refusal(closed)


def test_a_document_of_very_many_values_is_refused_before_they_are_compared() -> None:
    schema = {"type": "array", "uniqueItems": True}
    values = ", ".join(f"{{a: {number}}}" for number in range(16_000))
    (fault,) = load(f"[{values}]", "image.yaml").check(schema)
    assert str(fault) == "image.yaml:1: has 48001 values and keys, more than 2000; shorten it"


def test_of_many_faults_the_first_fifty_are_shown_with_the_number_of_the_rest() -> None:
    keys = "\n".join(f"key{number}: 1" for number in range(300))
    with pytest.raises(Faults) as refused:
        raise Faults(load(f"name: x\n{keys}\n", "image.yaml").check(SCHEMA))
    lines = str(refused.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == (
        "image.yaml:52: 250 more faults from here on are not shown; correct these first"
    )


@pytest.mark.parametrize("value", ["8.0", "-1.0", "1.0e3", "true"])
def test_only_a_whole_number_is_an_integer(value: str) -> None:
    assert "not a whole number" in faults_of(f"name: x\nsize: {value}\n")[0]


def test_the_end_of_a_pattern_is_the_end_of_the_text() -> None:
    schema = {"type": "string", "pattern": "^[a-z]+$"}
    assert load('"mlflow"', "x").check(schema) == []
    assert load('"mlflow\\n"', "x").check(schema)


@pytest.mark.parametrize("escape", [r"\UFFFFFFFF", r"\U00110000", r"\U7fffffff", r"\U80000000"])
@pytest.mark.parametrize("text", ['name: "{}"', '"{}": 1', '["{}"]'])
def test_an_escape_beyond_unicode_is_a_fault_with_its_line(text: str, escape: str) -> None:
    found = refusal("# first\n" + text.format(escape))
    assert found.startswith("image.yaml:2: contains an escape for a character that does not exist")


@pytest.mark.parametrize("escape", [r"\ud800", r"\udfff", r"\U0000d800", r"a\udc80b"])
@pytest.mark.parametrize("text", ['name: "{}"', '"{}": 1', '["{}"]'])
def test_half_of_a_character_is_a_fault_that_can_be_printed(text: str, escape: str) -> None:
    found = refusal("# first\n" + text.format(escape))
    assert "image.yaml:2: " in found and "half of a character" in found
    found.encode()


def test_a_fault_shows_no_character_that_changes_the_terminal() -> None:
    hostile = "\u001b[2J\u0007\u202e\u2028\u0085"
    fault = load("name: x\n", f"a{hostile}b").fault(("name",), f"is {hostile}", remedy=hostile)
    assert str(fault).isprintable()
    assert "\\x1b[2J\\x07\\u202e\\u2028\\x85" in str(fault)
