"""Parameters that are lists of names, each of which has parameters of its own.

Plain data: importing it needs no ROS.
"""

from __future__ import annotations

from collections.abc import Callable

from stream_vl_ros.brief import shown
from stream_vl_ros.errors import ConfigError


def names_in(parameter: str, value: object, example: str, check: Callable[[str], None]) -> list[str]:
    """The names in a parameter's value; None, as rclpy has it for an empty list, is none.

    Args:
        parameter: what it is called.
        value: its value.
        example: a good one, for who gave another.
        check: raises `ConfigError` for what is no name.

    Raises:
        ConfigError: if it is no list of names, or if one is there twice.
    """
    names = [] if value is None else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"parameter {parameter}={shown(value)}: must be a list of names, such as {example}")
    for i, name in enumerate(names):
        try:
            check(name)
        except ConfigError as error:
            raise ConfigError(f"parameter {parameter}: {error}") from error
        if name in names[:i]:
            raise ConfigError(
                f"parameter {parameter}={shown(list(names))}: {name!r} is there twice; each name stands for one"
            )
    return list(names)
