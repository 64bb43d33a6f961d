"""Makes a stand-in for the installers of Anaconda and Miniforge, from the python3 that runs it.

It is neither. The real installers (1 GB and 94 MB) cannot be fetched everywhere; the stand-in
tests that our scripts call an installer and its conda correctly. It behaves as the real ones did
when constructor 3.11.3 and conda 25.5.1 were run:

- options -b -p PREFIX -f -u -s -m -t -h; its own name must end in .sh;
- refuses an existing prefix and a disk with too little space, but only warns about a wrong MD5;
- PREFIX has a package cache (archives, unpacked packages, urls, cache/*.json), .condarc, _conda,
  condabin, shell functions in etc/profile.d/conda.sh, conda-meta with a history of transactions;
- an environment is no venv: bin/python3.X is a regular file, hard-linked to the cache like every
  other file without a prefix in it; files with one are written anew, with the time of that;
- bytecode is bound to its source by time, and Python writes more whenever it may;
- `conda create --offline -y -p DIR python=X.Y` finds only versions in the cache. Others end in a
  traceback, an emptied cache in PackagesNotFoundError. Plugins and the solver libmamba go
  together: one without the other is refused; with both, conda needs the network and fails.

Unlike the real ones, it does not install pip: our scripts must not need it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from pathlib import Path

NAME = "Anaconda3-standin-Linux-x86_64.sh"
PAYLOAD_BYTES = 300_000
MARK = "@@END_HEADER@@\n"

HEADER = r"""#!/bin/sh
# A stand-in for an installer of a Python distribution, for tests. It is not Anaconda.
set -eu
if ! echo "$0" | grep '\.sh$' > /dev/null; then
  echo 'Please run using "bash"/"dash"/"sh"/"zsh", but not "." or "source".' >&2
  exit 1
fi
unset CONDARC
THIS_PATH=$(cd "$(dirname "$0")"; pwd)/$(basename "$0")
PREFIX="${HOME:-/opt}/anaconda3-standin"
BATCH=0 FORCE=0
usage() {
  echo "usage: $0 [options]"
  echo "Installs the stand-in"
  echo "-b           run install in batch mode (without manual intervention)"
  echo "-f           no error if install prefix already exists"
  echo "-h           print this help message and exit"
  echo "-p PREFIX    install prefix, defaults to $PREFIX, must not contain spaces."
  echo "-s           skip running pre/post-link/install scripts"
  echo "-m           disable the creation of menu items / shortcuts"
  echo "-u           update an existing installation"
  echo "-t           run package tests after installation (may install conda-build)"
}
while getopts "bfhp:smut" option; do
  case $option in
    b) BATCH=1 ;;
    f|u) FORCE=1 ;;
    h) usage; exit 2 ;;
    p) PREFIX=$OPTARG ;;
    s|m|t) ;;
    *) echo "ERROR: did not recognize option '$option', please try -h"; exit 1 ;;
  esac
done
if [ "$BATCH" = 0 ]; then
  echo "ERROR: the stand-in has no interactive mode: use -b" >&2
  exit 1
fi
case $PREFIX in
  *\ *) echo "ERROR: Cannot install into directories with spaces" >&2; exit 1 ;;
esac
if [ "$FORCE" = 0 ] && [ -e "$PREFIX" ]; then
  echo "ERROR: File or directory already exists: '$PREFIX'" >&2
  echo "If you want to update an existing installation, use the -u option." >&2
  exit 1
fi
mkdir -p "$PREFIX"
free=$(($(df -Pk "$PREFIX" | tail -n 1 | awk '{print $4}') - 50 * 1024))
if [ "$free" -lt @NEEDED_KB@ ]; then
  echo "ERROR: Not enough free disk space. Only $((free / 1024)) MB are available, but" \
    "$((@NEEDED_KB@ / 1024)) MB are required (leaving a 50 MB buffer)." >&2
  exit 1
fi
echo "PREFIX=$PREFIX"
last_line=$(grep -anm 1 '^@@END_HEADER@@' "$THIS_PATH" | sed 's/:.*//')
if ! tail -n "+$((last_line + 1))" "$THIS_PATH" | md5sum | grep @MD5@ > /dev/null; then
  echo "WARNING: md5sum mismatch of tar archive" >&2
  echo "expected: @MD5@" >&2
fi
echo "Unpacking payload ..."
@FAULT@
mkdir -p ~/.conda
sed -n '/^@@BEGIN_CONDA@@$/,/^@@END_HEADER@@$/p' "$THIS_PATH" | sed '1d;$d' > "$PREFIX/_conda"
chmod 755 "$PREFIX/_conda"
echo "Installing base environment..."
@PYTHON@ -B "$PREFIX/_conda" install-base "$PREFIX" @VARIANT@
"$PREFIX/bin/python" -c 'import sysconfig; sysconfig.get_config_vars()'
echo "installation finished."
exit 0
@@BEGIN_CONDA@@
"""

CONDA = r'''#!python
"""The stand-in's conda, which only supports `create` from PREFIX/pkgs. It is not conda."""
import argparse, datetime, json, os, pathlib, re, shutil, sys

NOT_COPIED = ("test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "config-*",
              "site-packages", "dist-packages", "*.opt-[12].pyc")
HOOK = """export CONDA_EXE='{prefix}/bin/conda'
conda() {{
  if [ "$1" = activate ]; then export PATH="{prefix}/bin:$PATH"; else "$CONDA_EXE" "$@"; fi
}}
"""


def fill_cache(prefix, variant):
    """Unpack this Python into the package cache, laid out as in a conda package."""
    version = "%d.%d.%d" % sys.version_info[:3]
    short = "%d.%d" % sys.version_info[:2]
    name = "python-%s-standin_0" % version
    package = prefix / "pkgs" / name
    (package / "bin").mkdir(parents=True)
    (package / "info").mkdir()
    if variant == "without-python":
        shutil.rmtree(package)
    else:
        program = pathlib.Path(os.path.realpath(sys.executable))
        shutil.copy2(program, package / "bin" / ("python" + short))
        source = pathlib.Path(os.__file__).resolve().parent
        lib = package / "lib" / ("python" + short)
        if variant == "small":
            copy_imported(source, lib)
        else:
            ignore = shutil.ignore_patterns(*NOT_COPIED)
            shutil.copytree(source, lib, symlinks=True, ignore=ignore)
        for library in pathlib.Path(sys.base_prefix).glob("lib/libpython*.so*"):
            (package / "lib" / library.name).symlink_to(library)
        (lib / "site-packages").mkdir()
        like_upstream(lib)
        index = {"name": "python", "version": version, "build": "standin_0"}
        (package / "info" / "index.json").write_text(json.dumps(index))
        (prefix / "pkgs" / (name + ".conda")).write_bytes(b"an archive")
    url = "https://repo.example/pkgs/main/linux-64/%s.conda\n" % name
    for listing in ("urls", "urls.txt"):
        (prefix / "pkgs" / listing).write_text(url)
    (prefix / "pkgs" / "cache").mkdir()
    (prefix / "pkgs" / "cache" / "497deca9.json").write_text("{}")


def copy_imported(source, target):
    """Copy what this program has imported, and what sysconfig imports, of the standard library."""
    import encodings.ascii, locale, sysconfig, traceback
    sysconfig.get_config_vars()
    for module in list(sys.modules.values()):
        for name in (getattr(module, "__file__", None), getattr(module, "__cached__", None)):
            file = pathlib.Path(name or "/")
            if source in file.parents and "site-packages" not in file.parts and file.exists():
                copy = target / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, copy)


def like_upstream(lib):
    """Undo what Debian changes: packages go to site-packages, also outside of a venv."""
    for name, changes in (
        ("sysconfig.py", [("prefix_scheme = 'posix_local'", "prefix_scheme = 'posix_prefix'")]),
        ("site.py", [('"dist-packages"', '"site-packages"'), ("local/lib", "lib")]),
    ):
        file = lib / name
        before = text = file.read_text()
        for old, new in changes:
            text = text.replace(old, new)
        if text != before:
            stat = file.stat()
            file.write_text(text)
            os.utime(file, (stat.st_atime, stat.st_mtime))
            for stale in lib.glob("__pycache__/%s.*" % file.stem):
                stale.unlink()
    for name in ("sitecustomize.py", "EXTERNALLY-MANAGED"):
        if (lib / name).exists() or (lib / name).is_symlink():
            (lib / name).unlink()


def link(root, prefix, command):
    """An environment of every package in the cache, as hard links."""
    for package in sorted(root.glob("pkgs/python-*/info")):
        package = package.parent
        for file in sorted(package.rglob("*")):
            name = file.relative_to(package)
            target = prefix / name
            if name.parts[0] == "info":
                continue
            if file.is_dir() and not file.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
            elif file.is_symlink():
                target.symlink_to(os.readlink(file))
            elif file.name.startswith("_sysconfigdata") and file.suffix == ".py":
                target.write_text(file.read_text() + "\n# prefix: %s\n" % prefix)
            else:
                os.link(file, target)
        short = "python%s.%s" % tuple(package.name.split("-")[1].split(".")[:2])
        for alias in ("python", "python3"):
            (prefix / "bin" / alias).symlink_to(short)
    meta = prefix / "conda-meta"
    meta.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    (meta / "history").write_text("==> %s <==\n# cmd: %s\n" % (now, command))


def install_base(prefix, variant):
    for folder in ("bin", "condabin", "envs", "etc/profile.d"):
        (prefix / folder).mkdir(parents=True)
    fill_cache(prefix, "small" if variant == "without-python" else variant)
    link(prefix, prefix, "_conda install --offline")
    if variant == "without-python":
        shutil.rmtree(prefix / "pkgs")
        fill_cache(prefix, variant)
    text = (prefix / "_conda").read_text()
    for program in ("bin/conda", "condabin/conda"):
        (prefix / program).write_text(text.replace("#!python", "#!%s/bin/python" % prefix, 1))
        (prefix / program).chmod(0o755)
    (prefix / ".condarc").write_text("channels:\n  - defaults\n")
    (prefix / "etc/profile.d/conda.sh").write_text(HOOK.format(prefix=prefix))


def create(root, given):
    plugins = os.environ.get("CONDA_NO_PLUGINS", "").lower() not in ("1", "true", "yes")
    libmamba = os.environ.get("CONDA_SOLVER", "libmamba") == "libmamba"
    if libmamba and not plugins:
        sys.exit("CondaValueError: You have chosen a non-default solver backend (libmamba) but it "
                 "was not recognized. Choose one of: classic")
    if plugins:
        raise ConnectionError("the stand-in's plugin for the terms of service has no network")
    if not given.offline:
        sys.exit("CondaHTTPError: the stand-in has no network; use --offline")
    if not given.yes:
        sys.exit("DryRunExit: the stand-in has no interactive mode: use -y")
    if (given.prefix / "conda-meta").exists():
        sys.exit("CondaValueError: prefix already exists: %s" % given.prefix)
    cached = [json.loads(f.read_text()) for f in sorted(root.glob("pkgs/*/info/index.json"))]
    for spec in given.specs:
        name, _, version = spec.partition("=")
        named = [package for package in cached if package["name"] == name]
        if not named:
            sys.exit("PackagesNotFoundError: not available from current channels:\n  - " + spec)
        if not [p for p in named if (p["version"] + ".").startswith(version + ".")]:
            raise RuntimeError("unsatisfiable: " + spec)
    link(root, given.prefix, " ".join(sys.argv))
    environments = pathlib.Path.home() / ".conda" / "environments.txt"
    environments.parent.mkdir(exist_ok=True)
    environments.write_text("%s\n" % given.prefix)
    print("done")


def main():
    parser = argparse.ArgumentParser(prog="conda")
    parser.add_argument("--version", action="version", version="conda 0.0.0 (stand-in)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("create")
    verb.add_argument("--offline", action="store_true")
    verb.add_argument("-y", "--yes", action="store_true")
    verb.add_argument("-p", "--prefix", type=pathlib.Path, required=True)
    verb.add_argument("specs", nargs="*")
    create(pathlib.Path(sys.prefix), parser.parse_args())


if sys.argv[1:2] == ["install-base"]:
    install_base(pathlib.Path(sys.argv[2]), sys.argv[3])
else:
    main()
'''

FAULTS = {
    "sound": ":",
    "failing": 'echo "ERROR: the stand-in fails on purpose: no space left on device" >&2; exit 1',
}
VARIANTS = ("sound", "small", "failing", "truncated", "without-python")


def make(
    folder: Path,
    variant: str = "sound",
    python: str = "/usr/bin/python3",
    needed_kb: int = 40_000,
) -> Path:
    """Write the installer into a folder and return its path.

    variant: sound, small (with a part of the standard library), failing (exits with 1 and a
    message, installs nothing), truncated (small, half of the payload is missing, which the
    stand-in survives), without-python (an emptied package cache).
    python: path of the interpreter on the machine that runs the installer. needed_kb: the free
    space below which it refuses.
    """
    payload = random.Random("payload").randbytes(PAYLOAD_BYTES)
    text = HEADER + CONDA + MARK
    for name, value in {
        "FAULT": FAULTS.get(variant, ":"),
        "PYTHON": python,
        "VARIANT": "small" if variant == "truncated" else variant,
        "NEEDED_KB": str(needed_kb),
        "MD5": hashlib.md5(payload).hexdigest(),  # noqa: S324 - as the real installers
    }.items():
        text = text.replace(f"@{name}@", value)
    target = folder / NAME
    target.write_bytes(text.encode() + payload[: len(payload) // (1 + (variant == "truncated"))])
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", choices=VARIANTS, default="sound")
    parser.add_argument("--python", default="/usr/bin/python3")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(make(given.folder, given.variant, given.python))


if __name__ == "__main__":
    main()
