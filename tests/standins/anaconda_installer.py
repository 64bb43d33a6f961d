"""Makes a stand-in for Anaconda's installer, with its command line and layout, from a python3.

It is not Anaconda. The real installer (1 GB, with its own terms) cannot be fetched everywhere;
the stand-in tests that our scripts call an installer and its conda correctly.

Like the real one, it has the options -b -p PREFIX -f -u -h, refuses an existing prefix, checks
its own size, installs PREFIX/bin/{python,conda}, PREFIX/pkgs and PREFIX/conda-meta, and supports
`conda create --offline -y -p DIR python=X.Y` for the one Python version in its package cache;
other versions fail. Unlike the real one, it does not install pip: our scripts must not need it.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

NAME = "Anaconda3-standin-Linux-x86_64.sh"
PAYLOAD_BYTES = 300_000
MARK = "@@END_OF_HEADER@@\n"

HEADER = r"""#!/bin/bash
# A stand-in for Anaconda's installer, for tests. It is not Anaconda.
set -eu
PREFIX="${HOME:-/opt}/anaconda3-standin"
BATCH=0 FORCE=0
usage() {
  echo "usage: $0 [options]"
  echo "Installs the Anaconda stand-in"
  echo "-b           run install in batch mode (without manual intervention)"
  echo "-f           no error if install prefix already exists"
  echo "-h           print this help message and exit"
  echo "-p PREFIX    install prefix, defaults to $PREFIX"
  echo "-u           update an existing installation"
}
while getopts "bfhp:u" option; do
  case $option in
    b) BATCH=1 ;;
    f|u) FORCE=1 ;;
    h) usage; exit 2 ;;
    p) PREFIX=$OPTARG ;;
    *) echo "ERROR: did not recognize option, please try -h" >&2; exit 1 ;;
  esac
done
size=$(wc -c < "$0")
if [ "$size" -ne @SIZE@ ]; then
  echo "ERROR: size of $0 should be @SIZE@ bytes, it is $size" >&2
  exit 1
fi
if [ "$BATCH" = 0 ]; then
  echo "ERROR: the stand-in has no interactive mode: use -b" >&2
  exit 1
fi
if [ -e "$PREFIX" ] && [ "$FORCE" = 0 ]; then
  echo "ERROR: File or directory already exists: '$PREFIX'" >&2
  echo "If you want to update an existing installation, use the -u option." >&2
  exit 1
fi
echo "PREFIX=$PREFIX"
@FAULT@
python3=@PYTHON@
"$python3" -m venv --without-pip "$PREFIX"
version=$("$python3" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
mkdir -p "$PREFIX/pkgs/python-$version-standin_0/info" "$PREFIX/conda-meta" "$PREFIX/envs"
printf '{"name": "python", "version": "%s"}\n' "$version" \
  > "$PREFIX/pkgs/python-$version-standin_0/info/index.json"
touch "$PREFIX/conda-meta/history"
sed -n '/^@@BEGIN_CONDA@@$/,/^@@END_OF_HEADER@@$/p' "$0" | sed '1d;$d' \
  | sed "1s|.*|#!$PREFIX/bin/python|" > "$PREFIX/bin/conda"
chmod 755 "$PREFIX/bin/conda"
echo "installation finished."
exit 0
@@BEGIN_CONDA@@
"""

CONDA = r'''#!python
"""The stand-in's conda, which only supports `create` from PREFIX/pkgs. It is not conda."""
import argparse, json, pathlib, subprocess, sys

root = pathlib.Path(sys.prefix)
parser = argparse.ArgumentParser(prog="conda")
parser.add_argument("--version", action="version", version="conda 0.0.0 (stand-in)")
verbs = parser.add_subparsers(dest="verb", required=True)
create = verbs.add_parser("create")
create.add_argument("--offline", action="store_true")
create.add_argument("-y", "--yes", action="store_true")
create.add_argument("-p", "--prefix", type=pathlib.Path, required=True)
create.add_argument("specs", nargs="*")
given = parser.parse_args()
if not given.offline:
    sys.exit("CondaHTTPError: the stand-in has no network; use --offline")
if not given.yes:
    sys.exit("DryRunExit: the stand-in has no interactive mode: use -y")
if (given.prefix / "conda-meta").exists():
    sys.exit("CondaValueError: prefix already exists: %s" % given.prefix)
cached = [json.loads(f.read_text()) for f in sorted(root.glob("pkgs/*/info/index.json"))]
for spec in given.specs:
    name, _, version = spec.partition("=")
    fits = [p for p in cached if p["name"] == name and f"{p['version']}.".startswith(f"{version}.")]
    if not fits:
        sys.exit("PackagesNotFoundError: not available from current channels:\n  - %s" % spec)
subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(given.prefix)], check=True)
(given.prefix / "conda-meta").mkdir()
(given.prefix / "conda-meta" / "history").write_text("==> stand-in <==\n")
environments = pathlib.Path.home() / ".conda" / "environments.txt"
environments.parent.mkdir(exist_ok=True)
environments.write_text("%s\n" % given.prefix)
print("done")
'''

FAULTS = {
    "sound": ":",
    "failing": 'echo "ERROR: the stand-in fails on purpose: no space left on device" >&2; exit 1',
}


def make(folder: Path, variant: str = "sound", python: str = "/usr/bin/python3") -> Path:
    """Write the installer into a folder and return its path.

    variant: sound, failing (exits with 1 and a message, installs nothing), truncated (the last
    third is missing). python: path of the interpreter on the machine that runs the installer.
    """
    header = HEADER.replace("@FAULT@", FAULTS.get(variant, ":")).replace("@PYTHON@", python)
    payload = random.Random("payload").randbytes(PAYLOAD_BYTES)
    # The size has six digits, so that inserting it does not change the size.
    without = (header + CONDA + MARK).replace("@SIZE@", "000000").encode() + payload
    content = (header + CONDA + MARK).replace("@SIZE@", str(len(without))).encode() + payload
    target = folder / NAME
    target.write_bytes(content[: len(content) * 2 // 3] if variant == "truncated" else content)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", choices=["sound", "failing", "truncated"], default="sound")
    parser.add_argument("--python", default="/usr/bin/python3")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(make(given.folder, given.variant, given.python))


if __name__ == "__main__":
    main()
