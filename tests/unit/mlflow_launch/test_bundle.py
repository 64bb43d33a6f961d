"""The bundle: its modules are the same as after a normal import of their files."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import py_compile
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_launch import bundle

NAMES = ["bundled", "bundled.part", "bundled_alone"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed, compiled modules; none of them is imported."""
    site = tmp_path / "site-packages"
    (site / "bundled").mkdir(parents=True)
    (site / "one-1.0.dist-info").mkdir()
    (site / "bundled/__init__.py").write_text("from bundled.part import value\n")
    (site / "bundled/part.py").write_text("value = 7\n\ndef whose():\n    return __file__\n")
    (site / "bundled/data.txt").write_text("content\n")
    (site / "bundled_alone.py").write_text("alone = True\n")
    for source in site.rglob("*.py"):
        py_compile.compile(str(source))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield site
    forget()


@pytest.fixture
def written(site: Path, tmp_path: Path) -> Path:
    """The bundle of those modules."""
    for name in NAMES:
        importlib.import_module(name)
    target = tmp_path / bundle.NAME
    assert bundle.write(target, [*NAMES, "os", "not_there"], site) == len(NAMES)
    forget()
    return target


def forget() -> None:
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_module_of_the_bundle_is_the_same_as_after_a_normal_import(
    written: Path, site: Path
) -> None:
    usual = {name: vars(importlib.import_module(name)).copy() for name in NAMES}
    forget()
    assert bundle.install(written)
    for name in NAMES:
        module = importlib.import_module(name)
        assert isinstance(module.__loader__, bundle.Loader)
        assert module.__file__ == usual[name]["__file__"]
        assert module.__cached__ == usual[name]["__cached__"]
        assert module.__package__ == usual[name]["__package__"]
        assert vars(module).get("__path__") == usual[name].get("__path__")
        assert set(vars(module)) == set(usual[name])


def test_source_and_data_files_of_a_bundled_module_are_found(written: Path, site: Path) -> None:
    bundle.install(written)
    part = importlib.import_module("bundled.part")
    assert part.whose() == str(site / "bundled/part.py")
    assert inspect.getsource(part.whose).startswith("def whose():")
    data = importlib.resources.files("bundled").joinpath("data.txt")
    assert data.read_text() == "content\n"


def test_the_code_comes_from_the_bundle_and_not_from_the_file(written: Path, site: Path) -> None:
    (site / "bundled_alone.py").write_text("raise SystemExit('read after all')\n")
    bundle.install(written)
    assert importlib.import_module("bundled_alone").alone is True


def test_a_shared_library_is_loaded_from_its_own_file(tmp_path: Path) -> None:
    # In another process: a loaded library cannot be removed from this one.
    code = (
        "import sys; from pathlib import Path; from mlflow_launch import bundle\n"
        "import yaml._yaml, yaml; site = Path(yaml.__file__).parents[1]\n"
        "target = Path(sys.argv[1]); bundle.write(target, ['yaml', 'yaml._yaml'], site)\n"
        "usual = yaml._yaml.__file__\n"
        "for name in [n for n in sys.modules if n.startswith('yaml')]: del sys.modules[name]\n"
        "sys.path.remove(str(site)); assert bundle.install(target)\n"
        "import yaml._yaml; assert yaml._yaml.__file__ == usual\n"
    )
    library = str(Path(bundle.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / bundle.NAME)],
        env={"PYTHONPATH": library},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_bundle_of_other_packages_is_not_used(
    written: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "one-1.0.dist-info").rename(site / "one-1.1.dist-info")
    assert not bundle.install(written)
    assert "packages have changed" in capsys.readouterr().err
    assert not isinstance(importlib.import_module("bundled").__loader__, bundle.Loader)


@pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0\0\0\0\0damaged!", b"x" * 4096])
def test_a_missing_or_damaged_bundle_is_logged_and_not_used(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / bundle.NAME
    if content is not None:
        target.write_bytes(content)
    assert not bundle.install(target)
    assert "missing or damaged" in capsys.readouterr().err


def test_two_bundles_of_the_same_modules_have_the_same_bytes(
    written: Path, site: Path, tmp_path: Path
) -> None:
    for name in NAMES:
        importlib.import_module(name)
    bundle.write(tmp_path / "again", NAMES, site)
    assert (tmp_path / "again").read_bytes() == written.read_bytes()
