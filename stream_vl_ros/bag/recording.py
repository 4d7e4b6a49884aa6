"""What can be replayed: a bag, or a video file that is read as if it were one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from stream_vl_ros.bag.reader import BagReader, Message, Topic
from stream_vl_ros.bag.serialized import IMAGE, serialized_image
from stream_vl_ros.errors import BagError
from stream_vl_ros.video import Video, VideoOptions

if TYPE_CHECKING:
    from typing_extensions import Self

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
# Messages are uncompressed, and the model looks at less than this.
_FPS, _WIDTH = 15.0, 960
_TOPIC = "/camera/image_raw"


class Recording(Protocol):
    """What a replay reads of a recording; see `BagReader`."""

    @property
    def path(self) -> Path: ...
    @property
    def start(self) -> int: ...
    @property
    def duration(self) -> int: ...
    def messages(self, *topics: Topic, start: int | None = None, stop: int | None = None) -> Iterator[Message]: ...
    def image_topic(self, name: str | None = None, *, hint: str = "") -> Topic: ...
    def filled_image_topics(self) -> tuple[Topic, ...]: ...


def open_recording(path: str | Path) -> BagReader | VideoRecording:
    """A file whose name ends as a video's does is one, everything else a bag. A context manager.

    Raises:
        BagError: the bag cannot be read.
        VideoError: the video cannot be read.
    """
    path = Path(path).expanduser()
    return VideoRecording(path) if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir() else BagReader(path)


class VideoRecording:
    """A video file as a recording of one image topic, which begins at the moment when it is opened.

    It has at most 15 frames a second, 960 pixels wide; `video_to_bag` makes bags with more.

    Attributes:
        path: the file.
        start, duration: log time of the first frame, and the span of all, nanoseconds.
    """

    def __init__(self, path: str | Path) -> None:
        """Look at the file.

        Raises:
            VideoError: it is no video, or its first frame cannot be decoded.
        """
        video = Video(path)
        first = next(video.pictures(only={0}))
        height, width, _ = first.pixels.shape
        scale = min(1.0, _WIDTH / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        self._video = Video(path, VideoOptions(fps=_FPS, size=None if scale == 1 else size))
        self.path: Path = video.path
        self.start = time.time_ns()
        self.duration = round(video.info.seconds * 1e9)
        rate = min(_FPS, video.info.fps or _FPS)
        self._topic = Topic(_TOPIC, IMAGE, max(1, round(video.info.seconds * rate)), rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every reading opens the file anew, and closes it."""

    def image_topic(self, name: str | None = None, *, hint: str = "") -> Topic:
        """The only topic.

        Raises:
            BagError: another one is wanted.
        """
        if name is not None and name.lstrip("/") != _TOPIC.lstrip("/"):
            raise BagError(
                f"Video {str(self.path)!r} has no topic {name!r}; leave --topic out, and name one with --to."
            )
        return self._topic

    def filled_image_topics(self) -> tuple[Topic, ...]:
        """The only topic."""
        return (self._topic,)

    def messages(self, *topics: Topic, start: int | None = None, stop: int | None = None) -> Iterator[Message]:
        """The frames as messages; `start` <= log time < `stop`, nanoseconds.

        Raises:
            VideoError: a frame cannot be decoded; says how far it went.
        """
        for picture in self._video.pictures():
            moment = self.start + picture.time
            if stop is not None and moment >= stop:
                return
            if start is None or moment >= start:
                yield Message(self._topic, moment, moment, serialized_image(picture.pixels, moment, "video"))
