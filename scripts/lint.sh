#!/bin/sh
# Everything that is checked without running the services; all checks run, also after one has failed.
set -u
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD:$PWD/sdk"
failed=""

check() {
    title=$1
    shift
    if output=$("$@" 2>&1); then
        echo "ok      $title"
    else
        printf '%s\nFAILED  %s: %s\n' "$output" "$title" "$*"
        failed="$failed $1"
    fi
}

check "the contract compiles" python hatch_build.py
check "style" ruff check .
check "format" ruff format --check .
check "types" mypy
check "architecture" lint-imports
check "contract" buf lint
check "contract's format" buf format --diff --exit-code protos
check "contract is compatible with the baseline" buf breaking protos --against protos/baseline.binpb
check "sizes, names and words" pytest -q -p no:cacheprovider tests/test_tidy.py

if [ -n "$failed" ]; then
    echo "lint failed:$failed" >&2
    exit 1
fi
