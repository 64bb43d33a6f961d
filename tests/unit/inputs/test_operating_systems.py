"""operating_systems: every row is complete and fits the definition, the locks and the keyrings."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from mlflow_image.inputs import definition, wheels
from mlflow_image.inputs.operating_systems import (
    COMMON_PACKAGES,
    OPERATING_SYSTEMS,
    WARN_DAYS,
    OperatingSystem,
    support_warning,
)

rows = pytest.mark.parametrize("system", OPERATING_SYSTEMS.values(), ids=OPERATING_SYSTEMS)


def test_the_definition_accepts_exactly_these_systems() -> None:
    assert definition.schema()["properties"]["os"]["enum"] == list(OPERATING_SYSTEMS)


@rows
def test_each_has_a_lock_for_its_python(system: OperatingSystem) -> None:
    assert any(
        wheel.name == "mlflow" for wheel in wheels.read_lock(wheels.lock_file(system.python))
    )


@rows
def test_each_keyring_comes_from_the_host_or_is_pinned_completely(system: OperatingSystem) -> None:
    pinned = (bool(system.keyring.deb_path), bool(system.keyring.deb_sha256))
    assert pinned in ((True, True), (False, False))
    assert re.fullmatch("[0-9a-f]{64}|", system.keyring.deb_sha256)
    assert system.keyring.package in system.packages, "the image needs its own keyring"


@rows
def test_there_is_no_warning_long_before_the_end_of_support(system: OperatingSystem) -> None:
    early = system.support_ends - timedelta(days=WARN_DAYS + 1)
    assert support_warning(system, early) is None


@rows
def test_a_warning_is_printed_from_180_days_before_the_end_of_support(
    system: OperatingSystem,
) -> None:
    assert WARN_DAYS == 180
    at = support_warning(system, system.support_ends - timedelta(days=180))
    assert at == f"support of {system.name} ends on {system.support_ends}, in 180 days"
    last = support_warning(system, system.support_ends)
    assert last and last.endswith("in 0 days")


@rows
def test_after_the_end_of_support_the_warning_suggests_another_system(
    system: OperatingSystem,
) -> None:
    after = support_warning(system, system.support_ends + timedelta(days=1))
    assert after and "ended on" in after and "--os" in after


def test_common_packages_are_sorted_and_named_once() -> None:
    assert list(COMMON_PACKAGES) == sorted(set(COMMON_PACKAGES))
