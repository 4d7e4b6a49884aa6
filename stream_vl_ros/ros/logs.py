"""Python's logging, shown by ROS."""

from __future__ import annotations

import logging
from typing import Any


class RosLogHandler(logging.Handler):
    """Hands records over to a node's logger, so that the engine's lines reach the console and /rosout."""

    def __init__(self, ros_logger: Any) -> None:
        super().__init__()
        self._ros = ros_logger

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        # rclpy remembers a severity per line of code that logs, hence a line each.
        if record.levelno >= logging.ERROR:
            self._ros.error(message)
        elif record.levelno >= logging.WARNING:
            self._ros.warning(message)
        elif record.levelno >= logging.INFO:
            self._ros.info(message)
        else:
            self._ros.debug(message)
