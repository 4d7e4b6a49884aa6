#!/usr/bin/env bash
# Builds the package with colcon into install/, unless nothing that colcon looks at has changed.
# The Python files are symlinked: an edit needs no build, only a new or removed file does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that called

# One at a time.
exec 9<scripts
flock 9

origin=$({ pwd; cat .venv/.stamp; } | sha256sum)
key=$({
    echo "$origin"
    find CMakeLists.txt package.xml msg srv action stream_vl_ros/engine/few_queries* -type f -print0 | sort -z | xargs -0 sha256sum
    find stream_vl_ros launch config scripts/nodes -type f ! -name '*.pyc' | sort
} | sha256sum)
if [[ -f install/.stamp && $(<install/.stamp) == "$key" ]]; then
    exit 0
fi
if [[ ! -f build/.origin || $(<build/.origin) != "$origin" ]]; then
    rm -rf build install log # of another place or environment
fi
mkdir -p build
printf '%s\n' "$origin" >build/.origin

# shellcheck source=env.sh
source scripts/env.sh
export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV PYTHONPATH=
rm -f install/.stamp
colcon build --symlink-install --event-handlers console_cohesion- status- \
    --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$VIRTUAL_ENV/bin/python" -Wno-deprecated
find install -xtype l -delete # links to files that are gone
printf '%s\n' "$key" >install/.stamp
