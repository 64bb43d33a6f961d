"""`invoke torture`: what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.tasks.torture import torture

URL = "http://server:5000"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({}, "no server is named"),
        ({"url": "ftp://x"}, "its scheme is ftp"),
        ({"url": URL, "minutes": "soon"}, "--minutes soon is not a number above 0"),
        ({"url": URL, "minutes": "0"}, "--minutes 0 is not a number above 0"),
        ({"url": URL, "clients": 0}, "--clients 0 is not from 1 to 64"),
        ({"url": URL, "check": "a", "record": "b"}, "--check and --record exclude each other"),
        ({"url": URL, "check": "/none"}, "/none cannot be read"),
    ],
)
def test_bad_flags_are_refused_in_one_line(
    flags: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as ended:
        torture(Context(), **flags)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
