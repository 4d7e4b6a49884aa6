"""What benches are told on the command line, refused before anything is loaded if it cannot work."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn

from stream_vl_ros.errors import StreamVLError


def count(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 1 or more")
    return value


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def as_command(main: Callable[[], int | None]) -> NoReturn:
    """End the process as `main` says; what is wrong with a model, a device or a file is a line, not a traceback."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.rpartition(".")[2] if spec is not None else "bench"
    try:
        code = main() or 0
    except (StreamVLError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
