#!/usr/bin/env bash
# Writes constraints.txt anew from the requirement files, for Python 3.10 to 3.13. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
{
    cat <<'HEADER'
# Every package that `make env` installs, with all that they need, in the versions that were tested.
# Written by scripts/lock.sh.
HEADER
    echo pip | cat requirements.txt requirements-ros.txt requirements-web.txt requirements-dev.txt - |
        uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate "$@" - |
        # Constraints need no platform, and the wheels themselves end at Python 3.13.
        sed -E "s/ and (\(.*\)|sys_platform.*|platform_.*)$//; s/(;| and) python_full_version < '3.14'$//; s/ +$//"
} >constraints.new
mv constraints.new constraints.txt
