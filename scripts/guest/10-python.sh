#!/usr/bin/env bash
# layer: python
# Makes /opt/mlflow: a Python environment with the locked wheels, byte-compiled, and the
# empty database that the first boot copies.
set -euo pipefail
umask 022
export SOURCE_DATE_EPOCH PYTHONHASHSEED=0

python=/opt/mlflow/bin/python

echo ":: making /opt/mlflow with the $PYTHON_DISTRIBUTION Python"
case $PYTHON_DISTRIBUTION in
  system) /usr/bin/python3 -m venv --without-pip /opt/mlflow ;;
  anaconda) bash "$PAYLOAD/anaconda.sh" ;;
  *) echo "unknown Python distribution: $PYTHON_DISTRIBUTION" >&2; exit 1 ;;
esac

echo ":: installing $(grep -c '==' "$PAYLOAD/requirements.txt") wheels"
"$PAYLOAD/uv" pip install --quiet --python "$python" --no-deps --no-index --no-cache --link-mode copy \
  --find-links "$PAYLOAD/wheels" --require-hashes --requirement "$PAYLOAD/requirements.txt"

# The host may have made the rest already, with this very Python (mlflow_image/prepared.py).
if [ -e "$PAYLOAD/prepared.tar" ]; then
  echo ":: unpacking what the host prepared"
  tar -C / --no-overwrite-dir --touch -xf "$PAYLOAD/prepared.tar"
else
  echo ":: byte-compiling"
  bash "$PAYLOAD/byte-compile.sh" "$python" \
    > /run/compileall.log || true # some packages carry files for other Pythons
fi

if [ ! -e /opt/mlflow/share/mlflow-image/modules.bundle ]; then
  echo ":: making the empty database and the list of modules to import early"
  bash "$PAYLOAD/make-database.sh" "$python"
fi
