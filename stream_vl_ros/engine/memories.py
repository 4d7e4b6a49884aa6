"""Moments of a stream that are kept under names, to go back to."""

from __future__ import annotations

from dataclasses import replace

from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.stream_records import StreamSnapshot
from stream_vl_ros.errors import RequestError

# Each keeps the memory of its moment allocated.
MAX_MEMORIES = 16
MAX_NAME = 256


class Memories:
    """Snapshots of one stream by name. Used on the thread that owns the stream."""

    def __init__(self) -> None:
        self._kept: dict[str, StreamSnapshot] = {}

    def keep(self, stream: VideoStream, name: str) -> dict[str, int]:
        """Keep the present moment; one of that name is replaced. Returns all that are kept and their tokens.

        Waiting frames are encoded first, as far as they are whole pairs; an odd one is not part of it.

        Raises `RequestError` for an empty or overlong name, if there are too many, or if there is nothing to keep.
        """
        if not name.strip() or len(name) > MAX_NAME:
            raise RequestError(f"name={name[:80]!r}: give a memory a name of 1 to {MAX_NAME} characters")
        if name not in self._kept and len(self._kept) >= MAX_MEMORIES:
            raise RequestError(
                f"{len(self._kept)} memories are kept, and more than {MAX_MEMORIES} are not: discard one of "
                f"{', '.join(sorted(self._kept))}"
            )
        stream.flush()
        if not stream.frames:
            raise RequestError("no video yet: there is nothing to keep")
        self._kept[name] = replace(stream.snapshot(), pending=())
        return self.tokens()

    def recall(self, stream: VideoStream, name: str) -> dict[str, int]:
        """Go back to a moment; frames since then are forgotten, those that wait are lost.

        Raises `RequestError` for a name that is not known.
        """
        stream.restore(self._known(name))
        return self.tokens()

    def discard(self, name: str) -> dict[str, int]:
        """Let go of a moment. Raises `RequestError` for a name that is not known."""
        self._known(name)
        del self._kept[name]
        return self.tokens()

    def tokens(self) -> dict[str, int]:
        """Tokens in the KV cache of each."""
        return {name: snapshot.cache.length for name, snapshot in self._kept.items()}

    def _known(self, name: str) -> StreamSnapshot:
        if name not in self._kept:
            known = ", ".join(repr(n) for n in sorted(self._kept)) or "none"
            raise RequestError(f"name={name!r}: no memory of that name; kept are {known}")
        return self._kept[name]
