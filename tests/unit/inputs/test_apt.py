"""apt: names become exact .debs through the host's own apt, on an archive made here."""

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
from mlflow_image.inputs.apt import Archive, Package, Resolution
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.inputs.store import Store
from mlflow_image.progress import Step
from tests.unit.samples import package

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


def test_essential_and_required_packages_belong_to_every_tree() -> None:
    assert [apt.is_required(p.stanza) for p in apt.parse_stanzas(STANZAS)] == [True, False]
    assert apt.is_required("Package: x\nPriority: required")
    assert not apt.is_required("Package: x\nPriority: important\nDescription: Essential: yes")


def test_names_come_out_of_what_apt_would_download() -> None:
    said = (
        "'http://archive.example/pool/l/libc_2.35_amd64.deb' libc6_2.35_amd64.deb 3235 SHA256:ab\n"
        "'http://archive.example/g++_4%3a11.deb' g++_4%3a11_amd64.deb 1400 SHA256:cd\n"
        "Reading package lists...\n"
    )
    assert apt.names_of_uris(said) == ["libc6", "g++"]


def test_what_is_wanted_has_the_common_the_system_s_and_the_extra_packages() -> None:
    names = apt.wanted(SYSTEM, ("vim",))
    assert {"apt", "cloud-init", SYSTEM.kernel, *SYSTEM.packages, "vim"} <= set(names)
    assert names == sorted(set(names))


def resolution(*packages: Package, at: float = 0.0) -> Resolution:
    return Resolution(packages, ("deb http://archive.example jammy main",), at)


def test_a_difference_names_changed_new_and_gone_packages() -> None:
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
    assert list(file.parent.iterdir()) == [file], "nothing is left beside it"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"packages": [{"name": "a"}]}', '{"packages": 7}']
)
def test_a_broken_list_counts_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.json"
    file.write_text(text)
    assert apt.load(file) is None
    assert apt.load(tmp_path / "missing.json") is None


def test_the_age_is_counted_from_when_it_was_resolved() -> None:
    assert 99 < resolution(at=time.time() - 100).age_s < 110
    assert apt.MAX_AGE_S == 7 * 24 * 3600


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A flat archive of four .debs: `server` in two versions, what it needs, one essential."""
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
        tree.chmod(0o755)  # dpkg-deb insists, whatever the umask
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


def test_names_resolve_to_the_newest_and_all_that_it_needs(archive: Archive, step: Step) -> None:
    found = archive.resolve(["server"], step)
    assert [p.label for p in found.packages] == ["essential=1", "library=1:2.0", "server=1.10"]
    assert found.sources == archive.sources
    assert found.age_s < 60


def test_resolved_packages_are_fetched_into_the_store(
    archive: Archive, step: Step, store: Store
) -> None:
    found = archive.resolve(["server"], step)
    archive.fetch(found, store, step)
    assert [store.intact(p.sha256) for p in found.packages] == [True, True, True]


def test_an_unknown_name_is_refused_with_where_to_correct_it(archive: Archive, step: Step) -> None:
    with pytest.raises(Refusals, match=r"apt_packages .* what ubuntu-22\.04 lacks:") as caught:
        archive.resolve(["sever", "server", "srv"], step)
    assert caught.value.faults == ["sever, did you mean server?", "srv"]
    assert "apt_packages" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_an_archive_that_cannot_be_read_says_what_can_be_done(
    archive: Archive, step: Step, tmp_path: Path
) -> None:
    archive.sources = (f"deb [trusted=yes] file:{tmp_path}/nowhere ./",)
    with pytest.raises(Failure) as caught:
        archive.resolve(["server"], step)
    assert "apt_mirror" in caught.value.remedy
    assert "nowhere" in caught.value.evidence


def test_a_mirror_replaces_the_hosts_for_fetching_only(cache: Path, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    public = (
        "deb http://archive.example/ubuntu jammy main",
        "deb http://security.example/ubuntu jammy-security main",
    )
    archive = Archive(cache / "apt", SYSTEM, keyring, public, "http://127.0.0.1:9/ubuntu")
    archive._configure()
    assert (cache / "apt" / "sources.list").read_text().splitlines() == [
        "deb http://127.0.0.1:9/ubuntu jammy main",
        "deb http://127.0.0.1:9/ubuntu jammy-security main",
    ]
    assert archive.sources == public


def test_of_the_host_s_apt_only_acquire_settings_are_taken(
    archive: Archive, cache: Path, program: Callable[[str, str], Path]
) -> None:
    program("apt-config", """printf 'Acquire::http::Proxy "http://127.0.0.1:3128";\\n'""")
    archive._configure()
    text = (cache / "apt" / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://127.0.0.1:3128";' in text
    assert 'Dir::Etc::parts "/dev/null";' in text
    assert 'Dir::State::status "' + str(cache) in text


def deb_of(folder: Path, content: bytes) -> Package:
    folder.mkdir(exist_ok=True)
    file = folder / "a_1_all.deb"
    file.write_bytes(content)
    return package("a", sha256=hash_file(file))


def test_a_downloaded_deb_that_the_list_does_not_name_is_refused(
    tmp_path: Path, store: Store
) -> None:
    listed = deb_of(tmp_path / "in", b"one")
    other = replace(listed, sha256="0" * 64)
    with pytest.raises(Failure, match=r"a_1_all\.deb has the sha256 .* does not name"):
        apt.take_in(tmp_path / "in", [other], store)
    assert not store.has(listed.sha256)


def test_a_deb_that_did_not_come_is_named(tmp_path: Path, store: Store) -> None:
    listed = deb_of(tmp_path / "in", b"one")
    with pytest.raises(Failure, match=r"apt did not bring b=1\.0"):
        apt.take_in(tmp_path / "in", [listed, package("b")], store)
    assert store.has(listed.sha256)
