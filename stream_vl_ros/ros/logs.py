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
        try:
            self._tell(record.levelno, self.format(record))
        except Exception:  # as logging wants it: whoever logs must not suffer for it
            self.handleError(record)

    def _tell(self, level: int, message: str) -> None:
        # rclpy remembers a severity per line of code that logs, hence a line each.
        if level >= logging.ERROR:
            self._ros.error(message)
        elif level >= logging.WARNING:
            self._ros.warning(message)
        elif level >= logging.INFO:
            self._ros.info(message)
        else:
            self._ros.debug(message)
