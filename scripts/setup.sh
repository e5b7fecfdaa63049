#!/bin/sh
# Make .venv with exactly the pinned packages, and this project in it. Quick when nothing changed.
# uv (pinned in the lock itself) installs in seconds; where it cannot work, pip does the same more slowly.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Python has no venv here. On Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
fi

wanted=$(cat requirements.lock pyproject.toml | cksum)
[ -x .venv/bin/python ] || "$python" -m venv .venv
if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    .venv/bin/python hatch_build.py # the contract may have changed
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
quiet="--quiet --disable-pip-version-check"
install_with_uv() {
    awk '/^[a-zA-Z]/ { ours = /^uv==/ } ours' requirements.lock > "$scratch/uv.lock"
    .venv/bin/pip install $quiet --no-deps -r "$scratch/uv.lock" 2> "$scratch/log" || return 1
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$(.venv/bin/pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes \
        -r requirements.lock 2> "$scratch/log"
}
install_with_pip() {
    .venv/bin/pip install $quiet --no-deps --require-hashes -r requirements.lock
}
echo "Installing what requirements.lock pins into .venv …"
install_with_uv || install_with_pip
.venv/bin/pip install $quiet --no-deps --no-build-isolation --editable .
printf '%s' "$wanted" > .venv/installed
