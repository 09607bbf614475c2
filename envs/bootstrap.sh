#!/usr/bin/env bash
# Makes build/venv from a hash lock and installs this project into it (editable).
#
#   envs/bootstrap.sh tools    what an edge node needs: command line, submission, building the training environment
#   envs/bootstrap.sh test     all of that, the training packages and the tools of the tests
#   envs/bootstrap.sh airflow  the tools, and Airflow with this project's operators apart from them in build/airflow/venv
#
# Run again it does nothing while the locks are the same. pip's own configuration (index, certificate, proxy) counts.
# PYTHON=/path/to/python3.11 chooses the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mode=${1:-tools}
venv=$root/build/venv
stamp=$venv/.bootstrap
export UV_CACHE_DIR=${UV_CACHE_DIR:-$root/build/cache/uv}
export TMPDIR=$root/build/cache/tmp # uv leaves lock files in its temporary folder

say() { echo "bootstrap: $*" >&2; }
fail() { say "$*"; exit 1; }

case $mode in tools | test | airflow) ;; *) fail "unknown environment '$mode'; next: envs/bootstrap.sh tools, test or airflow" ;; esac
with_airflow=
if [ "$mode" = airflow ]; then mode=tools with_airflow=yes; fi

# --- the tools of the machine ---------------------------------------------------------------------------------------

usable_python() {  # prints the path of a working CPython 3.11 with venv and pip's wheel
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python3.11; do
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys, venv, ensurepip, ctypes, ssl
print(sys.executable) if sys.version_info[:2] == (3, 11) else sys.exit(1)' 2>/dev/null && return 0
    done
    return 1
}

usable_java() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    "$java" -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])'
}

missing_tools() {  # one line for each: the Debian packages, and what it is
    python=$(usable_python) || echo "python3.11 python3.11-venv|Python 3.11 with venv (python3.11)"
    usable_java || echo "default-jdk-headless|Java 17 or newer (java)"
    # A site's own cluster needs neither: both serve the single node and the Makefile.
    if [ -z "${HADOOP_CONF_DIR:-}" ]; then
        command -v mvn >/dev/null || echo "maven|Maven (mvn)"
    fi
    command -v make >/dev/null || echo "make|make"
}

install_missing() {
    local missing packages what
    missing=$(missing_tools)
    [ -n "$missing" ] || return 0
    packages=$(cut -d'|' -f1 <<<"$missing" | tr '\n' ' ')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "apt-get installs: $packages"
        # shellcheck disable=SC2086
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } \
            >"$root/build/apt.log" 2>&1 || say "apt-get failed, see build/apt.log: $(grep -m1 '^E:' "$root/build/apt.log" || true)"
        missing=$(missing_tools)
    fi
    [ -n "$missing" ] || return 0
    while IFS='|' read -r packages what; do
        say "missing: $what; next: install it (on Debian: apt-get install $packages)"
    done <<<"$missing"
    exit 1
}

# --- the virtual environment ----------------------------------------------------------------------------------------

fingerprint() { cat "$root"/envs/{tools,test,build}.lock "$root/pyproject.toml" <(echo "$python") | sha256sum | cut -c1-16; }

up_to_date() {  # the environment of the tests holds that of the tools
    [ -f "$stamp" ] && read -r made print <"$stamp" && [ "$print" = "$(fingerprint)" ] &&
        { [ "$made" = "$mode" ] || [ "$made" = test ]; }
}

mkdir -p "$root/build" "$TMPDIR"
exec 9>"$root/build/.bootstrap.lock"
flock -n 9 || { say "another bootstrap is at work; waiting for it"; flock -w 1200 9 || fail "it has not ended in 20 minutes"; }

# --- Airflow's own environment, made by the tools of the first ------------------------------------------------------

bootstrap_airflow() {
    local venv=$root/build/airflow/venv stamp=$root/build/airflow/.bootstrap started=$SECONDS print
    print=$(cat "$root/envs/airflow.lock" "$root/pyproject.toml" <(echo "$python") | sha256sum | cut -c1-16)
    [ "$(cat "$stamp" 2>/dev/null)" = "$print" ] && return
    rm -rf "$venv" "$stamp" # half an environment is not mended but replaced
    mkdir -p "$root/build/airflow" "$TMPDIR"
    say "packages of envs/airflow.lock"
    eval "$("$root/build/venv/bin/python" "$root/envs/pip_settings.py")"
    "$python" -m venv --without-pip "$venv" 9>&-
    export VIRTUAL_ENV=$venv UV_LINK_MODE=${UV_LINK_MODE:-hardlink} UV_BUILD_CONSTRAINT=$root/envs/build.lock
    local uv=$root/build/venv/bin/uv
    # Compiled at once: where PYTHONDONTWRITEBYTECODE is set, each of Airflow's processes would compile it anew.
    "$uv" pip sync --quiet --compile-bytecode --require-hashes --require-build-hashes "$root/envs/airflow.lock" 9>&- ||
        fail "installing envs/airflow.lock failed; next: see the lines above, and that the package index is reachable (pip config list)"
    "$uv" pip install --quiet --no-deps --no-build-isolation --editable "$root" 9>&- ||
        fail "installing this project into build/airflow/venv failed; next: see the lines above"
    echo "$print" >"$stamp"
    say "build/airflow/venv is ready ($((SECONDS - started)) s)"
}

finish() {
    if [ -n "$with_airflow" ]; then bootstrap_airflow; fi
    rm -rf "$TMPDIR"
    exit 0
}

install_missing
python=$(usable_python)
if up_to_date; then finish; fi
if [ -f "$stamp" ]; then
    read -r made print <"$stamp"
    [ "$made" = test ] && mode=test
    [ "$(readlink -f "$venv/bin/python")" = "$(readlink -f "$python")" ] || rm -f "$stamp"
fi
started=$SECONDS
# Without a stamp a bootstrap was killed here, or this is not one of ours: half an environment is not mended but replaced.
[ -f "$stamp" ] || rm -rf "$venv"
rm -f "$stamp"
if [ ! -d "$venv" ]; then
    say "build/venv with $python ($("$python" -V))"
    "$python" -m venv "$venv" 9>&-
    awk '/^[a-z]/ { wanted = /^uv==/ } wanted' "$root/envs/tools.lock" >"$venv/uv.lock"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$venv/uv.lock" 9>&- ||
        fail "pip could not install uv; next: see that the package index is reachable (pip config list)"
    rm "$venv/uv.lock"
fi
eval "$("$venv/bin/python" "$root/envs/pip_settings.py")"
export VIRTUAL_ENV=$venv UV_LINK_MODE=${UV_LINK_MODE:-hardlink} UV_BUILD_CONSTRAINT=$root/envs/build.lock
say "packages of envs/$mode.lock"
"$venv/bin/uv" pip sync --quiet --compile-bytecode --require-hashes --require-build-hashes "$root/envs/$mode.lock" 9>&- ||
    fail "installing envs/$mode.lock failed; next: see the lines above, and that the package index is reachable (pip config list)"
"$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable "$root" 9>&- ||
    fail "installing this project into build/venv failed; next: see the lines above"
# pyspark's unpacked source (1 GB) is of no more use; the built package stays in the cache.
find "$root/build/cache/uv" -maxdepth 7 -type d -name src -path '*/sdists-*' -prune -exec rm -rf {} + 2>/dev/null || true
echo "$mode $(fingerprint)" >"$stamp.partial"
mv "$stamp.partial" "$stamp"
say "build/venv is ready ($mode, $((SECONDS - started)) s)"
finish
