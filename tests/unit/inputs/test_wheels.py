"""wheels: lock files name exact files; package sets; the host's pip settings as uv's variables."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from mlflow_image.errors import Failure
from mlflow_image.inputs import wheels
from mlflow_image.inputs.store import Store
from mlflow_image.inputs.wheels import Wheel, WheelFiles
from mlflow_image.paths import HERE
from mlflow_image.progress import Step

Python = Callable[[str], None]
CONTENT = b"a wheel"
WHEEL = Wheel(
    "boto3", "1.40.0", hashlib.sha256(CONTENT).hexdigest(), "boto3-1.40.0-py3-none-any.whl", 7
)
LOCK_FILES = sorted(HERE.locks.glob("image-*.txt"))


@pytest.fixture
def python(program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Python:
    """Replaces this Python by a shell script: python(body)."""

    def put(body: str) -> None:
        monkeypatch.setattr(sys, "executable", str(program("python3", body)))

    return put


@pytest.fixture
def lock(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "image-3.10.txt"
        file.write_text(text)
        return file

    return write


def test_a_lock_line_reads_back_the_same(lock: Callable[[str], Path]) -> None:
    file = lock(f"# made by a test\n\n{WHEEL.line}\n")
    assert wheels.read_lock(file) == [WHEEL]


@pytest.mark.parametrize(
    "line",
    [
        "boto3==1.40.0",
        "boto3>=1.40.0 --hash=sha256:" + "a" * 64 + "  # boto3.whl, 7 bytes",
        "boto3==1.40.0 --hash=sha256:abc  # boto3-1.40.0-py3-none-any.whl, 7 bytes",
        "boto3==1.40.0 --hash=sha256:" + "a" * 64 + "  # boto3-1.40.0.tar.gz, 7 bytes",
        "boto3==1.40.0 --hash=sha256:" + "a" * 64 + "  # boto3-1.40.1-py3-none-any.whl, 7 bytes",
        "boto3==1.40.0 --hash=sha256:" + "a" * 64 + "  # boto-1.40.0-py3-none-any.whl, 7 bytes",
        "boto3==1.40.0 --hash=sha256:" + "a" * 64 + "  # boto3-1.40.0-any.whl, 7 bytes",
        "boto3==one --hash=sha256:" + "a" * 64 + "  # boto3-1.40.0-py3-none-any.whl, 7 bytes",
        "boto3==1.40.0 --hash=sha256:"
        + "a" * 64
        + "  # ../../boto3-1.40.0-py3-none-any.whl, 7 bytes",
        "boto3==1.40.0 --hash=sha256:"
        + "a" * 64
        + "  # /etc/boto3-1.40.0-py3-none-any.whl, 7 bytes",
    ],
)
def test_a_line_that_does_not_pin_a_wheel_is_refused_with_its_place(
    lock: Callable[[str], Path], line: str
) -> None:
    with pytest.raises(Failure, match=r"^image-3\.10\.txt:2: not a lock line: boto3") as caught:
        wheels.read_lock(lock(f"{WHEEL.line}\n{line}\n"))
    assert "invoke lock" in caught.value.remedy


def test_a_missing_lock_file_is_reported_with_the_task_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"image-2\.7\.txt is missing") as caught:
        wheels.read_lock(tmp_path / "image-2.7.txt")
    assert "invoke lock" in caught.value.remedy


@pytest.mark.parametrize("file", LOCK_FILES, ids=lambda file: str(file.stem))
def test_each_lock_fits_the_guest(file: Path) -> None:
    locked = wheels.read_lock(file)
    names = [wheel.name for wheel in locked]
    assert len(names) == len(set(names))
    versions = {w.name: w.version for w in locked}
    assert versions["mlflow"] == versions["mlflow-skinny"] == versions["mlflow-tracing"]
    assert {"psycopg2-binary", "boto3", "uvloop", "flask-wtf"} <= set(names)
    for wheel in locked:
        _, _, _, tags = parse_wheel_filename(wheel.filename)
        platforms = {tag.platform for tag in tags}
        assert platforms & {"any", *wheels.PLATFORMS}, (
            f"{wheel.filename} does not run on every operating system"
        )


def test_the_full_set_is_everything_and_the_server_set_omits_some() -> None:
    locked = wheels.read_lock(LOCK_FILES[0])
    assert wheels.select(locked, "full") == locked
    server = {wheel.name for wheel in wheels.select(locked, "server")}
    left_out = {wheel.name for wheel in locked} - server
    assert {"scipy", "scikit-learn", "matplotlib", "docker"} <= left_out
    assert {"mlflow", "pandas", "numpy", "alembic", "graphene"} <= server


def test_every_package_that_the_server_set_omits_is_in_the_locks() -> None:
    names = {wheel.name for wheel in wheels.read_lock(LOCK_FILES[0])}
    lines = (HERE.locks / "server-leaves-out.txt").read_text().splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    assert not listed - names, "these names are in no lock file"


def test_a_wheel_is_described_by_its_file_name_and_content(tmp_path: Path) -> None:
    file = tmp_path / "Flask_WTF-1.2.2-py3-none-any.whl"
    file.write_bytes(CONTENT)
    assert wheels.wheel_of(file) == Wheel("flask-wtf", "1.2.2", WHEEL.sha256, file.name, 7)


def pip_that_downloads(content: str) -> str:
    """A python3 whose `pip download` checks its requirements and writes one wheel."""
    return f"""while [ $# -gt 0 ]; do case $1 in
  --dest) dest=$2 ;;
  --requirement) grep -q 'boto3==1.40.0 --hash=sha256:' "$2" || exit 9 ;;
esac; shift; done
echo "Collecting boto3==1.40.0"
printf '{content}' > "$dest/boto3-1.40.0-py3-none-any.whl" """


def test_wheels_are_fetched_into_the_store(python: Python, store: Store, step: Step) -> None:
    python(pip_that_downloads("a wheel"))
    kind = WheelFiles(store, (WHEEL,), "3.10")
    assert kind.title(kind.missing()).startswith("1 wheels, ")
    kind.fetch(step)
    assert kind.missing() == []
    assert step.detail == "1 of 1: boto3==1.40.0"
    python("exit 1")
    kind.fetch(step)  # downloads nothing


def test_a_wheel_with_another_hash_is_refused_and_named(
    python: Python, store: Store, step: Step
) -> None:
    python(pip_that_downloads("another"))
    with pytest.raises(Failure, match=r"boto3-1\.40\.0-py3-none-any\.whl has the wrong sha256"):
        WheelFiles(store, (WHEEL,), "3.10").fetch(step)
    assert not store.has(WHEEL.sha256)


def test_a_failing_download_shows_pip_s_message(python: Python, store: Store, step: Step) -> None:
    python("echo 'ERROR: no such host'; exit 1")
    with pytest.raises(Failure) as caught:
        WheelFiles(store, (WHEEL,), "3.10").fetch(step)
    assert caught.value.evidence == "ERROR: no such host"
    assert "--offline" in caught.value.remedy


def test_a_lock_file_names_the_wheels_that_pip_chooses_for_the_resolved_packages(
    python: Python, program: Callable[[str, str], Path], tmp_path: Path, step: Step
) -> None:
    program("uv", "printf '# a comment\\nflask-wtf==1.2.2\\n'")
    python(
        """while [ $# -gt 0 ]; do case $1 in
  config) exit 0 ;;
  --dest) dest=$2 ;;
  --requirement) grep -qx 'flask-wtf==1.2.2' "$2" || exit 9 ;;
esac; shift; done
printf 'a wheel' > "$dest/Flask_WTF-1.2.2-py3-none-any.whl" """
    )
    target = tmp_path / "image-3.10.txt"
    wheels.lock(tmp_path / "image.in", "3.10", target, step)
    assert target.read_text().startswith("# Made by `invoke lock` from image.in, for Python 3.10 ")
    (locked,) = wheels.read_lock(target)
    assert (locked.name, locked.sha256) == ("flask-wtf", WHEEL.sha256)


@pytest.fixture
def no_uv_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("UV_INSECURE_HOST", raising=False)


@pytest.mark.usefixtures("no_uv_settings")
def test_pip_s_settings_become_uv_s_variables(python: Python) -> None:
    python(
        """cat <<'END'
global.index-url='https://mirror.example/simple'
global.cert='/etc/company.pem'
global.extra-index-url='\\nhttps://one.example\\nhttps://two.example'
install.no-compile='true'
END""",
    )
    assert wheels.uv_environment() == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_INDEX": "https://one.example https://two.example",
    }


@pytest.mark.usefixtures("no_uv_settings")
def test_pip_s_environment_overrides_its_files(python: Python) -> None:
    listed = "global.index-url='https://file.example'\n:env:.index-url='https://env.example'"
    python(f"cat <<'END'\n{listed}\nEND")
    assert wheels.uv_environment() == {"UV_DEFAULT_INDEX": "https://env.example"}


@pytest.mark.usefixtures("no_uv_settings")
def test_uv_s_own_settings_are_not_overridden(
    python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example")
    python("echo \"global.index-url='https://file.example'\"")
    assert wheels.uv_environment() == {}


@pytest.mark.usefixtures("no_uv_settings")
def test_a_host_without_pip_settings_adds_no_variables(python: Python) -> None:
    python("exit 1")
    assert wheels.uv_environment() == {}
