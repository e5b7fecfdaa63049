#!/bin/sh
# Make .venv with exactly the pinned packages, and this project in it. Quick when nothing changed.
# uv (on the PATH, else as pinned in the lock) installs in seconds; where it cannot work, pip does the same slowly.
set -eu
cd "$(dirname "$0")/.."

python=""
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or newer is needed: install it, or name it, as in: make setup PYTHON=/path/to/python3" >&2
    exit 1
fi

uv=$(command -v uv || true)
wanted=$(cat requirements.lock pyproject.toml | cksum)
if ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --python "$python" .venv
    elif "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Without pip, which takes longer to unpack than all that follows: it runs from the wheel that Python brings.
        "$python" -m venv --without-pip .venv
    else
        [ "$(id -u)" = 0 ] && sudo="" || sudo="sudo "
        echo "Python has no venv here. On Debian and Ubuntu: ${sudo}apt-get install -y python3-venv" >&2
        exit 1
    fi
fi
if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
quiet="--quiet --disable-pip-version-check"
pip_wheel=$("$python" -c "
import ensurepip, pathlib
places = [getattr(ensurepip, '_WHEEL_PKG_DIR', None), pathlib.Path(ensurepip.__file__).parent / '_bundled']
wheels = [wheel for place in places if place for wheel in sorted(pathlib.Path(place).glob('pip-*.whl'))]
print(wheels[-1] if wheels else '')" 2>/dev/null || true)
pip() {
    if [ -n "$pip_wheel" ]; then
        PYTHONPATH="$pip_wheel" .venv/bin/python -m pip "$@"
    else
        .venv/bin/python -m pip --version > /dev/null 2>&1 || .venv/bin/python -m ensurepip > /dev/null
        .venv/bin/python -m pip "$@"
    fi
}
get_uv() {
    [ -z "$uv" ] || return 0
    awk '/^[a-zA-Z]/ { ours = /^uv==/ } ours' requirements.lock > "$scratch/uv.lock"
    pip install $quiet --no-deps --no-compile -r "$scratch/uv.lock" || return 1
    uv=.venv/bin/uv
    # uv does not read pip's configuration.
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$(pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
}
install_with_uv() {
    get_uv && "$uv" pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements.lock
}
install_with_pip() {
    uv=""
    pip install $quiet --no-deps --require-hashes -r requirements.lock
}
install_project() {
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
    else
        pip install $quiet --no-deps --no-build-isolation --editable .
    fi
}
# Byte code of what every service imports, made once here rather than by four processes at the same time.
compile_packages() {
    env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c "
import aiohttp.web, alembic.command, joserfc.jwt, nats, prometheus_client, psycopg, structlog, yaml
import google.protobuf.json_format, google.rpc.error_details_pb2, grpc.aio, grpc_health.v1.health
import rich.live, rich.progress, rich.table, sqlalchemy.dialects.postgresql.psycopg" 2> "$scratch/compile" || true
}

echo "Installing what requirements.lock pins into .venv …"
install_with_uv 2> "$scratch/log" || install_with_pip || { cat "$scratch/log" >&2; exit 1; }
compile_packages &
install_project
wait
printf '%s' "$wanted" > .venv/installed
