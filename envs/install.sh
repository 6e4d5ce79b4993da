#!/bin/sh
# Installs the packages of the locks with the pip on the path; every package is checked by its hash.
#
#   envs/install.sh locked       all of requirements.lock: torch is the package index's build, on Linux with CUDA
#   envs/install.sh any          the same, but torch is the build that pip is configured for, such as a CPU build: the
#                                locked version, whose hash the lock does not contain
#   envs/install.sh pydensecrf   the other backend of dense_crf, built here with a C++ compiler and Python's headers
set -eu
cd "$(dirname "$0")"

locked() {
    pip install --quiet --require-hashes --no-deps "$@"
}

case "${1:-}" in
locked)
    locked --requirement requirements.lock
    ;;
any)
    locked --requirement cpu.lock
    pip install --quiet "$(grep -o '^torch==[^ ]*' requirements.lock)"
    ;;
pydensecrf)
    locked --no-build-isolation --requirement pydensecrf.lock
    ;;
*)
    echo "usage: $0 locked|any|pydensecrf" >&2
    exit 2
    ;;
esac
pip check
