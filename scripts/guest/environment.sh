#!/usr/bin/env bash
# Makes /opt/mlflow: a Python environment with the locked wheels, byte-compiled, with the empty
# database that the first boot copies. Reads: $PAYLOAD, $PYTHON_DISTRIBUTION, and what anaconda.sh
# reads.
# The host runs this in a chroot of the guest's packages (mlflow_image/builder/bake/on_host.py), and where
# that is not possible 10-python.sh runs it in a build VM; the bytes are the same.
set -euo pipefail
umask 022

python=/opt/mlflow/bin/python

# Nothing of the caller's environment has a say. The seed orders the sets among a module's
# constants.
clean() {
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    PYTHONHASHSEED=0 "$@"
}

echo ":: making /opt/mlflow with the $PYTHON_DISTRIBUTION Python"
case $PYTHON_DISTRIBUTION in
  system) clean /usr/bin/python3 -m venv --without-pip /opt/mlflow ;;
  anaconda) PYTHONHASHSEED=0 bash "$PAYLOAD/anaconda.sh" ;;
  *) echo "unknown Python distribution: $PYTHON_DISTRIBUTION" >&2; exit 1 ;;
esac

echo ":: installing $(grep -c '==' "$PAYLOAD/requirements.txt") wheels"
clean "$PAYLOAD/uv" pip install --quiet --python "$python" --no-deps --no-index --no-cache \
  --link-mode copy --find-links "$PAYLOAD/wheels" --require-hashes \
  --requirement "$PAYLOAD/requirements.txt"
# uv leaves its lock, which anyone may write to, and notes when it met each wheel: no two bakes
# would have the same bytes.
rm -f /opt/mlflow/.lock
find /opt/mlflow/lib -path '*.dist-info/uv_cache.json' -delete
find /opt/mlflow/lib -path '*.dist-info/RECORD' -exec sed -i '/\/uv_cache\.json,/d' {} +

echo ":: byte-compiling"
# unchecked-hash: the same bytes every time, and no look at the source at every import.
# Test suites inside packages are never imported by a server.
log=$(mktemp)
code=0
clean "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/tests?/' \
  /opt/mlflow/lib > "$log" 2>&1 || code=$?
# 1: some packages carry files for other Pythons; whatever else went wrong is an error.
if [ "$code" -gt 1 ] || { [ "$code" = 1 ] && ! grep -q '^\*\*\* Error compiling' "$log"; } \
    || grep -Eq '^Traceback|^[A-Za-z]+: \[Errno' "$log"; then
  echo "byte-compiling ended with exit code $code" >&2
  tail -n 20 "$log" >&2
  exit 1
fi
rm "$log"

echo ":: making the empty database and the list of modules to import early"
# -B: the bytecode is that of the step above.
clean "$python" -s -B "$PAYLOAD/prepare/make-empty-database" /opt/mlflow/share/mlflow-image
