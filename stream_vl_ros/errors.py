"""Every error that this package raises on purpose.

One base class, so that a caller can catch them all; one subclass per subject. A message always names
the offending value, the reason, and what to do about it.
"""

from __future__ import annotations


class StreamVLError(Exception):
    """Base class of all errors of this package."""


class ConfigError(StreamVLError, ValueError):
    """A setting has a value that cannot work."""


class ModelLoadError(StreamVLError):
    """A model could not be loaded, or is of a family that is not supported."""


class PromptError(StreamVLError, ValueError):
    """A question, its options or a chat template cannot be turned into a prompt."""


class FrameError(StreamVLError, ValueError):
    """A picture cannot be used.

    Attributes:
        reason: one word for counters, such as ``"unknown_encoding"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RequestError(StreamVLError):
    """A question could not be answered.

    Attributes:
        reason: one word for counters.
    """

    reason = "engine_error"


class BusyError(RequestError):
    """Too many questions wait already.

    Attributes:
        retry_after: seconds until a place is probably free; None if nothing is known of that yet.
    """

    reason = "busy"

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TimedOutError(RequestError):
    """The deadline of a question passed before anything was written."""

    reason = "timed_out"


class NoVideoError(RequestError):
    """A question came before the first frame."""

    reason = "no_video"


class EngineClosedError(RequestError):
    """The engine was shut down before it could answer."""

    reason = "shutdown"


class CacheError(StreamVLError):
    """The KV cache could not do what was asked of it, or lost its contents."""


class SavedMemoryError(StreamVLError):
    """A memory cannot be written to disk, or one on disk cannot be used.

    Attributes:
        reason: one word for programs: ``"name"``, ``"missing"``, ``"damaged"``, ``"checksum"``, ``"version"``,
            ``"model"``, ``"dtype"``, ``"prompt"``, ``"disk_full"``, ``"unwritable"`` or ``"unreadable"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BagError(StreamVLError):
    """A bag cannot be read or written."""


class VideoError(StreamVLError):
    """A video file cannot be read."""


class WebError(StreamVLError):
    """The live page cannot be served, or cannot do what it was asked for."""


class MemoryFullError(RequestError):
    """Memory ran out, and making room did not help."""

    reason = "out_of_memory"


class ReportError(StreamVLError):
    """A report cannot be made, read or compared."""


class NativeOOMError(StreamVLError):
    """Native one-shot inference ran out of memory.

    Attributes:
        allocated: the most bytes that were allocated at once before it failed, weights included, and what the allocator
            kept in reserve: the bytes that a cap counts.
        asked: bytes that it asked for then; None where the allocator does not say.
        before: bytes that were held before it began.
    """

    def __init__(self, message: str, *, allocated: int, asked: int | None, before: int = 0) -> None:
        super().__init__(message)
        self.allocated, self.asked, self.before = allocated, asked, before
