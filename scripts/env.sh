# Source me from bash or zsh: `source scripts/env.sh`.
# Puts .venv and, once it is built, this package in front of everything else.

if [ -n "${BASH_VERSION-}" ]; then
    _svl_root=${BASH_SOURCE[0]}
elif [ -n "${ZSH_VERSION-}" ]; then
    eval '_svl_root=${(%):-%x}'
else
    _svl_root=scripts/env.sh
fi
_svl_root=$(cd "$(dirname "$_svl_root")/.." && pwd)
if [ ! -f "$_svl_root/.venv/pyvenv.cfg" ]; then
    echo "no environment in $_svl_root yet: make env" >&2
    return 1
fi

# Drops empty entries and those of a ROS 2 that was sourced before: two of them do not mix.
_svl_keep() {
    printf '%s' "$1" | awk -v RS=: -v root="$_svl_root/" \
        '$0 && index($0, root) != 1 && index($0, "/opt/ros/") != 1 {printf "%s%s", sep, $0; sep = ":"}'
}
_svl_prepend() {
    _svl_rest=$(_svl_keep "$2")
    printf '%s' "$1${_svl_rest:+:$_svl_rest}"
}

_svl_venv=$_svl_root/.venv
_svl_python=python$(sed -n 's/^version *= *\(3\.[0-9]*\).*/\1/p' "$_svl_venv/pyvenv.cfg")
_svl_libs=$_svl_venv/lib$(find "$_svl_venv/lib/$_svl_python/site-packages" \
    -maxdepth 1 -name 'ros_*.libs' -printf ':%p')
_svl_prefix=$_svl_root/install/stream_vl_ros

PATH=$(_svl_prepend "$_svl_venv/bin" "$PATH")
if [ -d "$_svl_prefix" ]; then
    AMENT_PREFIX_PATH=$_svl_prefix:$_svl_venv
    PYTHONPATH=$(_svl_prepend "$_svl_prefix/lib/$_svl_python/site-packages" "${PYTHONPATH-}")
    LD_LIBRARY_PATH=$(_svl_prepend "$_svl_prefix/lib:$_svl_libs" "${LD_LIBRARY_PATH-}")
else
    AMENT_PREFIX_PATH=$_svl_venv
    PYTHONPATH=$(_svl_keep "${PYTHONPATH-}")
    LD_LIBRARY_PATH=$(_svl_prepend "$_svl_libs" "${LD_LIBRARY_PATH-}")
fi
CMAKE_PREFIX_PATH=$AMENT_PREFIX_PATH
VIRTUAL_ENV=$_svl_venv
export PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH PYTHONPATH LD_LIBRARY_PATH VIRTUAL_ENV
unset PYTHONHOME

# The wheels start Python a second time to set LD_LIBRARY_PATH; it is set.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

# The only middleware that is installed here.
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
# The default transport loses every image larger than 512 KiB that is sent best effort.
export FASTDDS_BUILTIN_TRANSPORTS="${FASTDDS_BUILTIN_TRANSPORTS:-LARGE_DATA}"

unset -f _svl_keep _svl_prepend
unset _svl_root _svl_venv _svl_python _svl_libs _svl_prefix _svl_rest
