#!/bin/sh
# Installs the packages of the locks with the pip on the path; every package is checked by its hash.
#
#   envs/install.sh locked       all of requirements.lock: torch is the package index's build, on Linux with CUDA
#   envs/install.sh any          the same, but torch is the build that pip is configured for, such as a CPU build: the
#                                locked version, whose hash the lock does not contain
#   envs/install.sh pydensecrf   the other backend of dense_crf, built here with a C++ compiler and Python's headers
#   envs/install.sh triton       for a CPU build of torch, which comes without: the tests of the lattice's Triton kernels
#                                (201 MB, 690 MB unpacked)
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
triton)
    entry=$(mktemp)
    trap 'rm "$entry"' EXIT
    awk '/^[^ ]/ { own = /^triton==/ } own' requirements.lock >"$entry"
    locked --requirement "$entry"
    ;;
*)
    echo "usage: $0 locked|any|pydensecrf|triton" >&2
    exit 2
    ;;
esac
pip check
