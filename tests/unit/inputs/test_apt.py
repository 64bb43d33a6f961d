"""apt: names are resolved to exact .debs by the host's apt, on an archive made for the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.errors import Failure, Refusals
from mlflow_image.files import hash_file
from mlflow_image.inputs import apt
from mlflow_image.inputs.apt import Archive, Package, PackageFiles, Resolution
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.inputs.store import Store
from mlflow_image.progress import Step
from tests.unit.samples import package

Program = Callable[[str, str], Path]
SYSTEM = OPERATING_SYSTEMS["ubuntu-22.04"]
STANZAS = """Package: bash
Architecture: amd64
Version: 5.1-6ubuntu1
Essential: yes
Priority: required
Size: 769000
SHA256: {a}
Description: GNU Bourne Again SHell
 Package: not-a-field

Package: bash
Architecture: i386
Version: 5.1-6ubuntu1
Size: 1
SHA256: {b}

Package: tzdata
Architecture: all
Version: 2024a-0ubuntu0.22.04
Size: 349000
SHA256: {c}

Package: provided-without-a-file
Architecture: amd64
Version: 1
""".format(a="a" * 64, b="b" * 64, c="c" * 64)


def test_stanzas_become_packages_of_the_guest_s_architecture() -> None:
    bash, tzdata = apt.parse_stanzas(STANZAS)
    assert (bash.label, bash.architecture, bash.size_bytes) == (
        "bash=5.1-6ubuntu1",
        "amd64",
        769000,
    )
    assert bash.sha256 == "a" * 64
    assert bash.stanza.startswith("Package: bash\n")
    assert (tzdata.name, tzdata.architecture) == ("tzdata", "all")


def test_essential_and_required_packages_are_part_of_every_tree() -> None:
    assert [apt.is_required(p.stanza) for p in apt.parse_stanzas(STANZAS)] == [True, False]
    assert apt.is_required("Package: x\nPriority: required")
    assert not apt.is_required("Package: x\nPriority: important\nDescription: Essential: yes")


def test_names_are_read_from_the_files_that_apt_would_download() -> None:
    printed = (
        "'http://archive.example/pool/l/libc_2.35_amd64.deb' libc6_2.35_amd64.deb 3235 SHA256:ab\n"
        "'http://archive.example/g++_4%3a11.deb' g++_4%3a11_amd64.deb 1400 SHA256:cd\n"
        "Reading package lists...\n"
    )
    assert apt.names_of_uris(printed) == ["libc6", "g++"]


def test_wanted_are_the_common_packages_those_of_the_system_and_extra_ones() -> None:
    names = apt.wanted(SYSTEM, ("vim",))
    assert {"apt", "cloud-init", SYSTEM.kernel, *SYSTEM.packages, "vim"} <= set(names)
    assert names == sorted(set(names))


def resolution(*packages: Package, at: float = 0.0) -> Resolution:
    return Resolution(packages, ("deb http://archive.example jammy main",), at)


def test_a_difference_names_changed_added_and_removed_packages() -> None:
    old = resolution(package("a", "1"), package("b", "1"), package("c", "1"))
    new = resolution(package("a", "1"), package("b", "2"), package("d", "4"))
    assert apt.difference(old, new) == "b 1 -> 2, +d 4, -c 1"


def test_a_long_difference_stays_one_line() -> None:
    new = resolution(*(package(f"p{n}") for n in range(9)))
    assert apt.difference(resolution(), new).endswith("+p5 1.0 and 3 more")


def test_no_difference_is_silent() -> None:
    old = resolution(package("a"), at=1)
    assert apt.difference(old, resolution(package("a"), at=2)) == ""


def test_a_saved_resolution_loads_the_same(tmp_path: Path) -> None:
    file = tmp_path / "apt" / "jammy.json"
    saved = resolution(package("a"), package("b", "2:1.0~x"), at=5.0)
    apt.save(saved, file)
    assert apt.load(file) == saved
    assert list(file.parent.iterdir()) == [file], "no temporary file is left"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"packages": [{"name": "a"}]}', '{"packages": 7}']
)
def test_a_damaged_file_counts_as_no_resolution(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.json"
    file.write_text(text)
    assert apt.load(file) is None
    assert apt.load(tmp_path / "missing.json") is None


def test_the_age_is_counted_from_when_it_was_resolved() -> None:
    assert 99 < resolution(at=time.time() - 100).age_s < 110


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A flat archive of four .debs: `server` in two versions, its dependency, one essential."""
    folder = tmp_path_factory.mktemp("repository")
    stanzas = []
    for name, version, more in (
        ("essential", "1", "Essential: yes\n"),
        ("library", "1:2.0", ""),
        ("server", "1.9", "Depends: library\n"),
        ("server", "1.10", "Depends: library\n"),
    ):
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@y.z>\n"
            f"{more}Description: for a test\n"
        )
        tree = folder / "tree" / f"{name}-{version}" / "DEBIAN"
        tree.mkdir(parents=True)
        tree.chmod(0o755)  # dpkg-deb requires this, whatever the umask is
        (tree / "control").write_text(control)
        deb = folder / f"{name}_{version.replace(':', '.')}_all.deb"
        command.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree.parent, deb])
        stanzas.append(
            control + f"Filename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
            f"SHA256: {hash_file(deb)}\n"
        )
    (folder / "Packages").write_text("\n".join(stanzas))
    yield folder


@pytest.fixture
def archive(repository: Path, cache: Path, tmp_path: Path) -> Archive:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    source = f"deb [trusted=yes] file:{repository} ./"
    return Archive(cache / "apt", SYSTEM, keyring, (source,))


def test_names_are_resolved_to_the_newest_version_and_its_dependencies(
    archive: Archive, step: Step
) -> None:
    found = archive.resolve(["server"], step)
    assert [p.label for p in found.packages] == ["essential=1", "library=1:2.0", "server=1.10"]
    assert found.sources == archive.sources
    assert found.age_s < 60


def test_resolved_packages_are_fetched_into_the_store(
    archive: Archive, step: Step, store: Store
) -> None:
    found = archive.resolve(["server"], step)
    kind = PackageFiles(store, found, lambda: archive)
    assert [item.name for item in kind.missing()] == [p.label for p in found.packages]
    assert kind.title(kind.missing()).startswith("3 apt packages, ")
    kind.fetch(step)
    assert kind.missing() == []


def test_an_unknown_name_is_refused_with_where_to_correct_it(archive: Archive, step: Step) -> None:
    with pytest.raises(Refusals, match=r"ubuntu-22\.04 does not have these packages:") as caught:
        archive.resolve(["sever", "server", "srv"], step)
    assert caught.value.faults == ["sever, did you mean server?", "srv"]
    assert "apt_packages" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_an_archive_that_cannot_be_read_is_reported_with_a_remedy(
    archive: Archive, step: Step, tmp_path: Path
) -> None:
    archive.sources = (f"deb [trusted=yes] file:{tmp_path}/nowhere ./",)
    with pytest.raises(Failure) as caught:
        archive.resolve(["server"], step)
    assert "apt_mirror" in caught.value.remedy
    assert "nowhere" in caught.value.evidence


def settings_seen_by_apt(archive: Archive, file: str, program: Program, step: Step) -> str:
    """A file of apt's private configuration, as `apt-get update` finds it."""
    program("apt-get", f'cat "$(dirname "$APT_CONFIG")/{file}" >&2; exit 1')
    with pytest.raises(Failure) as caught:
        archive.resolve(["server"], step)
    return caught.value.evidence


def test_a_mirror_replaces_the_hosts_for_fetching_only(
    archive: Archive, cache: Path, tmp_path: Path, program: Program, step: Step
) -> None:
    public = (
        "deb http://archive.example/ubuntu jammy main",
        "deb http://security.example/ubuntu jammy-security main",
    )
    keyring = tmp_path / "keyring.gpg"
    mirrored = Archive(cache / "apt", SYSTEM, keyring, public, "http://127.0.0.1:9/ubuntu")
    assert settings_seen_by_apt(mirrored, "sources.list", program, step).splitlines() == [
        "deb http://127.0.0.1:9/ubuntu jammy main",
        "deb http://127.0.0.1:9/ubuntu jammy-security main",
    ]
    assert mirrored.sources == public


def test_only_the_acquire_settings_of_the_host_s_apt_are_used(
    archive: Archive, program: Program, cache: Path, step: Step
) -> None:
    program(
        "apt-config",
        """[ "$*" = "dump Acquire" ] || exit 1
printf 'Acquire::http::Proxy "http://127.0.0.1:3128";\\nAcquire::Languages "de";\\n'""",
    )
    text = settings_seen_by_apt(archive, "apt.conf", program, step)
    assert 'Acquire::http::Proxy "http://127.0.0.1:3128";' in text
    assert 'Acquire::Languages "de"' not in text
    assert 'Dir::Etc::parts "/dev/null";' in text
    assert f'Dir::State::status "{cache}' in text


def test_nobody_else_can_read_the_settings_of_apt(
    archive: Archive, program: Program, step: Step
) -> None:
    program("apt-get", 'stat -c %a "$APT_CONFIG" >&2; exit 1')
    with pytest.raises(Failure) as caught:
        archive.resolve(["server"], step)
    assert caught.value.evidence == "600", "a proxy's URL may contain a password"


def deb_of(folder: Path, content: bytes) -> Package:
    folder.mkdir(exist_ok=True)
    file = folder / "a_1_all.deb"
    file.write_bytes(content)
    return package("a", sha256=hash_file(file))


def test_a_downloaded_deb_that_is_not_in_the_list_is_refused(tmp_path: Path, store: Store) -> None:
    listed = deb_of(tmp_path / "in", b"one")
    other = replace(listed, sha256="0" * 64)
    with pytest.raises(Failure, match=r"a_1_all\.deb has the wrong sha256: .* is not in the list"):
        apt.add_debs(tmp_path / "in", [other], store)
    assert not store.has(listed.sha256)


def test_a_deb_that_was_not_downloaded_is_named(tmp_path: Path, store: Store) -> None:
    listed = deb_of(tmp_path / "in", b"one")
    with pytest.raises(Failure, match=r"apt-get download did not deliver b=1\.0"):
        apt.add_debs(tmp_path / "in", [listed, package("b")], store)
    assert store.has(listed.sha256)
