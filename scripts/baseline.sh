#!/bin/sh
# Make the contract as it stands the one that `buf breaking` compares with. Run it with each release, and when
# a change that breaks nothing should be guarded from now on.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/buf breaking protos --against protos/baseline.binpb
.venv/bin/buf build protos --exclude-source-info --output protos/baseline.binpb
