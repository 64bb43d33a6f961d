"""What is wrong with a text that is not YAML, in words for people."""

from __future__ import annotations

import re

import yaml


def explained(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    """The line (counted from 1), what is wrong, and what to do. Repeats nothing of the text."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, "contains a character that YAML does not allow", "remove it"
    problem = str(getattr(error, "problem", None) or "cannot be read")
    if "'\\t'" in problem:
        problem, remedy = "there is a tab where only spaces are allowed", "replace it with spaces"
    elif "alias" in problem or "token" in problem:
        remedy = "put values with special characters in quotes"
    elif "mapping values" in problem:
        problem, remedy = "a value contains a colon and a blank", "put it in quotes"
    elif "quoted scalar" in str(getattr(error, "context", "")):
        remedy = "close the quote; in double quotes a backslash begins an escape"
    else:
        remedy = "look at the indentation, the quotes and the colons up to this line"
    # PyYAML's message may quote a password that starts with * or & ("undefined alias 'S3cret'").
    # So replace every quotation of one word that is longer than one character.
    problem = re.sub(r"'[^' ]{2,}'|\"[^\" ]{2,}\"", "(...)", problem)
    return mark.line + 1 if mark else 1, f"is not YAML: {problem}", remedy
