#!/usr/bin/env bash
# Re-makes the hash locks from the *.in files. Pins that still fit are kept; `envs/lock.sh --upgrade` takes the newest.
# All but the last two come out of one resolution: test.lock is the whole, tools.lock and train.lock are parts of it.
set -euo pipefail
cd "$(dirname "$0")"
python=../build/venv/bin/python
[ -x ../build/venv/bin/uv ] || { echo "lock: build/venv is missing; next: envs/bootstrap.sh tools" >&2; exit 1; }
eval "$("$python" pip_settings.py)"

compile() {  # compile NAME [option...]
    local name=$1; shift
    ../build/venv/bin/uv pip compile --quiet "$name.in" --output-file "$name.lock" --generate-hashes \
        --no-emit-index-url --no-annotate --no-header \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
    sed -i "1i # Made by envs/lock.sh from $name.in; edit that one." "$name.lock"
    echo "lock: $name.lock: $(grep -c '^[a-z]' "$name.lock") packages"
}

compile test "$@"
compile tools --constraints test.lock
compile train --constraints test.lock
compile build --constraints test.lock
compile elephas --override elephas.override
compile airflow "$@"
