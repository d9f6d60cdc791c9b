#!/bin/sh
# Sets up a virtual environment with everything that demo and tests need: deploy/install.sh [FOLDER]
#
# Every package is pinned in requirements.lock and checked against its hash there. `make demo` and `make test` call this;
# it may be run again at any time. PYTHON=… names an interpreter; pip's own settings (index, proxy, certificate) hold.
set -eu

cd "$(dirname "$0")/.."
venv=${1:-.venv}
lock=requirements.lock
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

stop() {
    printf 'deltadex: %s\n' "$1" >&2
    exit 1
}

supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        "$PYTHON" -c "$supported" 2>/dev/null && echo "$PYTHON" && return
        stop "$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1), and Python 3.11, 3.12 or 3.13 is needed: name one by PYTHON=…"
    fi
    # The interpreter that this user works with comes first, then the newest.
    for name in python3 python3.13 python3.12 python3.11 python; do
        if "$name" -c "$supported" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    stop "Python 3.11, 3.12 or 3.13 is needed, and python3 is $(python3 --version 2>&1 | head -n 1): install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13) or name one by PYTHON=…"
}

# Entries of the lock, each with its hashes, whose names match a pattern or don't: entries '~' torch.
entries() {
    awk -v keep="$1" -v names="^($2)==" '/^[a-z0-9]/ { on = ($0 ~ names) == (keep == "~") } on' "$lock"
}

run_pip() {
    "$venv/bin/python" -m pip --retries 2 --log "$work/pip.log" "$@" || stop "$(why_pip_failed)"
}

why_pip_failed() {
    case $(cat "$work/pip.log") in
    *"No space left on device"*)
        echo "The disk is full. Free some room in $(pwd), in ${TMPDIR:-/tmp} and in pip's cache ($("$venv/bin/python" -m pip cache dir)), then run the same command again." ;;
    *CERTIFICATE_VERIFY_FAILED*)
        echo "The package index, or a proxy before it, shows a certificate that Python doesn't trust. Set PIP_CERT to the file of your company's certificates (PEM), then run the same command again." ;;
    *"DO NOT MATCH THE HASHES"*)
        echo "The index serves a file that is not the one in $lock. pip says above which one; nothing of it was installed." ;;
    *ProxyError* | *"Tunnel connection failed"*)
        echo "The proxy refuses the connection to the package index. Check HTTPS_PROXY, then run the same command again." ;;
    *NewConnectionError* | *NameResolutionError* | *ConnectTimeoutError* | *"Failed to establish a new connection"*)
        echo "The package index can't be reached. Check the network, HTTPS_PROXY or PIP_INDEX_URL, then run the same command again." ;;
    *"No matching distribution found"*)
        echo "The index lacks a package of $lock; pip names it above. An index of your own needs all of them for $(uname -sm)." ;;
    *"Failed to build"* | *"Failed building wheel"*)
        echo "One package has no ready-made file for $(uname -sm) and could not be compiled. Install a C++ compiler and Python's headers (Debian, Ubuntu: apt install build-essential python3-dev), then run the same command again." ;;
    *)
        echo "pip failed; the reason is above." ;;
    esac
}

python=$(find_python)
echo "Setting up $venv with $("$python" --version) ($python)"
if ! "$venv/bin/python" -c "$supported" 2>/dev/null; then
    "$python" -m venv --clear "$venv" ||
        stop "$python can't make virtual environments. Install its venv module (Debian, Ubuntu: apt install python3-venv)."
fi

entries '~' 'pip|hatchling|editables|packaging|pathspec|pluggy|trove-classifiers' >"$work/build.txt"
run_pip install --quiet --require-hashes --no-deps -r "$work/build.txt"

# On Linux the public index has torch with CUDA, which needs sixteen packages more; pip's settings may offer another build.
torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$lock")
run_pip install --quiet --dry-run --no-deps --ignore-installed --report "$work/torch.json" "$torch"
size=2300
drop='nvidia-.*|cuda-.*|triton'
if [ "$(uname -s)" = Linux ] && ! grep -q "\"version\": *\"[^\"]*+cpu\"" "$work/torch.json"; then
    size=6000
    drop=none
    cat <<TEXT

  This loads PyTorch with CUDA: 3 GB to download, 6 GB on the disk. Where there is no NVIDIA GPU, the CPU build does the
  same with 0.6 GB to download and 2.3 GB on the disk. To take that one, stop with Ctrl-C and run the same command with
  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu in front of it.

TEXT
fi
free=$(df -Pk "$venv" | awk 'NR == 2 { print int($4 / 1024) }')
used=$(du -sk "$venv" | awk '{ print int($1 / 1024) }')
[ $((free + used)) -ge "$size" ] || stop "$size MB are needed in $(pwd), and $free MB are free. Free some room, then run the same command again."

# Of files with the right hash pip takes one whose hash the index tells before one in a folder, which tells none. So a
# build from a folder (PIP_FIND_LINKS) is asked for by its place; its hash is checked all the same.
folder=$(sed -n 's/.*"url": *"\(file:[^"]*\)".*/\1/p' "$work/torch.json")
entries '!' "$drop" | sed "s|^torch==[^ ]*|${folder:+torch @ }${folder:-$torch}|" >"$work/all.txt"
echo "Installing $(grep -c '^[a-z0-9]' "$work/all.txt") packages, as pinned in $lock"
run_pip install --require-hashes --no-deps -r "$work/all.txt"
run_pip install --quiet --no-deps --no-build-isolation --editable .
run_pip check
