"""Repair the CMake exports of the ROS 2 wheels in the running interpreter's environment.

The message packages export two include folders of the machine that built the wheels
(/opt/python/cp3XY-cp3XY/...), and CMake refuses targets whose include folders do not exist.
They are replaced by this environment's own. Running it again changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

FOREIGN = re.compile(r'/opt/python/[^";]*?/include(?:/python3\.\d+)?(?=[";])')


def own(match: re.Match[str]) -> str:
    path = match.group()
    if Path(path).is_dir():
        return path
    return numpy.get_include() if "/numpy/" in path else sysconfig.get_path("include")


def main() -> None:
    changed = 0
    for file in Path(sys.prefix, "share").rglob("*.cmake"):
        text = file.read_text()
        fixed = FOREIGN.sub(own, text)
        if fixed != text:
            file.write_text(fixed)
            changed += 1
    print(f"CMake exports: {changed} files repaired")


if __name__ == "__main__":
    main()
