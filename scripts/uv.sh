#!/bin/sh
# Runs uv on this repository: the one on PATH if it is recent enough, else a private one that is
# installed into .uv/ on first use. Needs Python 3.11 or newer; writes nothing outside the
# repository except uv's own cache, and not even that where there is no writable home.
#
#   scripts/uv.sh sync --frozen
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

PINNED=0.13.9
MINIMUM=0.11.0 # the first that reads `system-certs` in pyproject.toml

# An activated environment or a user's uv settings must not decide what is installed here.
# Settings about the network (indexes, certificates, proxies, UV_SYSTEM_CERTS) stay.
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH
unset UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIR UV_WORKING_DIRECTORY
unset UV_PYTHON UV_MANAGED_PYTHON UV_NO_MANAGED_PYTHON UV_PYTHON_PREFERENCE
unset UV_FROZEN UV_LOCKED UV_NO_SYNC UV_NO_DEV UV_NO_EDITABLE UV_NO_GROUP UV_NO_DEFAULT_GROUPS

main() {
    find_python
    if is_recent uv; then
        uv=uv
    else
        uv=.uv/bin/uv
        is_recent "$uv" || install_uv
    fi
    if [ -z "${UV_CACHE_DIR:-}" ] && ! home_cache_is_writable; then
        export UV_CACHE_DIR="$PWD/.uv/cache"
    fi
    export UV_PYTHON="$python" UV_PYTHON_DOWNLOADS=never
    exec "$uv" "$@"
}

find_python() {
    # Each candidate is run: a version manager's shim can be on PATH and still find nothing. Of an
    # activated environment the interpreter below it is taken.
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if python=$("$candidate" -I -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null); then
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and none of python3, python3.11, python3.12," \
        "python3.13, python3.14 on PATH is one. Install one, or put it on PATH."
}

is_recent() {
    version=$("$1" --version 2>/dev/null) || return 1
    "$python" -I -c '
import re, sys
found, wanted = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in sys.argv[1:])
sys.exit(found < wanted)' "$version" "$MINIMUM"
}

install_uv() {
    echo "uv: installing $PINNED into .uv/" >&2
    if "$python" -I -m venv --clear .uv >/dev/null 2>&1; then
        installer=.uv/bin/python
    elif "$python" -I -m venv --clear --without-pip .uv >/dev/null 2>&1; then
        # Debian packages ensurepip apart from Python; pip itself may still be there.
        installer=$python
    else
        fail "$python cannot make a virtual environment in .uv/." \
            "On Debian and Ubuntu the package python3-venv brings what is missing."
    fi
    pip_install && return
    # An older pip trusts its own certificates only, not those of the machine.
    for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt \
        /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
        if [ -f "$bundle" ]; then
            echo "uv: trying again with the certificates of $bundle" >&2
            pip_install --cert "$bundle" && return
            break
        fi
    done
    fail "pip could not install uv $PINNED (its messages are above)." \
        "With uv $MINIMUM or newer on PATH no installation is needed."
}

pip_install() {
    # A machine's pip settings may name a mirror, which is right, or another place to install
    # to, which is not.
    (
        unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PIP_CONSTRAINT
        unset PIP_NO_BINARY PIP_ONLY_BINARY
        export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_REQUIRE_HASHES=0 PIP_NO_INPUT=1
        export PIP_DISABLE_PIP_VERSION_CHECK=1
        set -- install --quiet --no-cache-dir --only-binary=:all: "$@" "uv==$PINNED"
        if [ "$installer" != .uv/bin/python ]; then
            set -- --python .uv/bin/python "$@"
        fi
        "$installer" -I -m pip "$@" >&2
    ) && is_recent .uv/bin/uv
}

home_cache_is_writable() {
    [ -d "${HOME:-}" ] || return 1
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/uv
    mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ]
}

fail() {
    echo "error: $*" >&2
    exit 1
}

main "$@"
