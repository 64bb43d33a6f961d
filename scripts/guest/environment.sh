#!/usr/bin/env bash
# Creates /opt/mlflow: a Python environment with the locked wheels, byte-compiled, and the empty
# database that the first boot copies. Reads: $PAYLOAD, $PYTHON_DISTRIBUTION, and the variables
# that conda.sh reads.
# The host runs this in a chroot of the guest's packages (mlflow_image/builder/bake/on_host.py).
# Where that fails, 10-python.sh runs it in a build VM; the result has the same bytes.
set -euo pipefail
umask 022

python=/opt/mlflow/bin/python

# Run with a clean environment; PYTHONHASHSEED=0 makes set constants in .pyc files reproducible.
# Only the compiling step writes bytecode: what Python compiles by itself contains the time at which
# conda wrote the source, and compileall keeps bytecode that fits its source.
clean() {
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 "$@"
}

echo ":: creating /opt/mlflow with the $PYTHON_DISTRIBUTION Python"
case $PYTHON_DISTRIBUTION in
  system) clean /usr/bin/python3 -m venv --without-pip /opt/mlflow ;;
  anaconda | miniforge) PYTHONHASHSEED=0 bash "$PAYLOAD/conda.sh" ;;
  *) echo "unknown Python distribution: $PYTHON_DISTRIBUTION" >&2; exit 1 ;;
esac

echo ":: installing $(grep -c '==' "$PAYLOAD/requirements.txt") wheels"
clean "$PAYLOAD/uv" pip install --quiet --python "$python" --no-deps --no-index --no-cache \
  --link-mode copy --find-links "$PAYLOAD/wheels" --require-hashes \
  --requirement "$PAYLOAD/requirements.txt"
# uv leaves a lock file that is world-writable, and the time at which it saw each wheel, which would
# differ in every build.
rm -f /opt/mlflow/.lock
find /opt/mlflow/lib -path '*.dist-info/uv_cache.json' -delete
find /opt/mlflow/lib -path '*.dist-info/RECORD' -exec sed -i '/\/uv_cache\.json,/d' {} +

echo ":: byte-compiling"
# unchecked-hash: the same bytes in every build, and imports do not read the source.
# A server never imports the test suites inside packages.
# Four fixed lists, each for one process: which strings bytecode marks as shared depends on what the
# process has compiled before. With compileall's own processes (-j), 1 of 21,771 files differed.
lists=$(mktemp -d)
find /opt/mlflow/lib -name '*.py' -not -path '*/test/*' -not -path '*/tests/*' | LC_ALL=C sort \
  | split --elide-empty-files --number r/4 - "$lists/"
log=$(mktemp)
code=0 processes=()
for list in "$lists"/*; do
  clean "$python" -m compileall -q -i "$list" --invalidation-mode unchecked-hash \
    > "$list.log" 2>&1 &
  processes+=($!)
done
for process in "${processes[@]}"; do
  status=0
  wait "$process" || status=$?
  if [ "$status" -gt "$code" ]; then code=$status; fi
done
cat "$lists"/*.log > "$log"
rm -r "$lists"
# 1: some packages contain files for other Python versions; everything else is an error.
if [ "$code" -gt 1 ] || { [ "$code" = 1 ] && ! grep -q '^\*\*\* Error compiling' "$log"; } \
    || grep -Eq '^Traceback|^[A-Za-z]+: \[Errno' "$log"; then
  echo "byte-compiling ended with exit code $code" >&2
  tail -n 20 "$log" >&2
  exit 1
fi
rm "$log"

echo ":: creating the empty database and the list of modules to import early"
# -B: keep the bytecode of the step above.
clean "$python" -s -B "$PAYLOAD/prepare/make-empty-database" /opt/mlflow/share/mlflow-image
