#!/bin/sh
# Pin every dependency, with hashes, into requirements.lock. Needs a network and `pip install uv`.
# Run it after changing dependencies in pyproject.toml; `scripts/lock.sh --upgrade` takes newer releases.
set -eu
cd "$(dirname "$0")/.."
header="# Exact releases for development, tests and one-machine stacks; made by scripts/lock.sh from pyproject.toml."
lock=$(mktemp)
trap 'rm -f "$lock"' EXIT
if [ -f requirements.lock ]; then cp requirements.lock "$lock"; fi
.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --output-file "$lock" "$@"
{ echo "$header"; cat "$lock"; } > requirements.lock
