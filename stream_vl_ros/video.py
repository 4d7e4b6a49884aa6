"""Decode a video file into pictures with exact times, by PyAV."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stream_vl_ros.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_FORMATS = {"rgb8": "rgb24", "bgr8": "bgr24"}


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """What to take of a video.

    Attributes:
        start: seconds to leave out at the beginning.
        duration: seconds to take from there; None: to the end.
        fps: upper bound on frames per second; surplus frames are left out, none is invented. None: all frames.
        size: (width, height) in pixels to scale to, as shown, after rotation; None: as it is.
        encoding: channel order, "rgb8" or "bgr8".
    """

    start: float = 0.0
    duration: float | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    encoding: Literal["rgb8", "bgr8"] = "rgb8"

    def __post_init__(self) -> None:
        checks = (
            ("start", self.start >= 0, "0 or more seconds"),
            ("duration", self.duration is None or self.duration > 0, "above 0 seconds"),
            ("fps", self.fps is None or self.fps > 0, "above 0 frames per second"),
            ("size", self.size is None or min(self.size) > 0, "two numbers of pixels above 0"),
            ("encoding", self.encoding in _FORMATS, "'rgb8' or 'bgr8'"),
        )
        for name, good, rule in checks:
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {rule}.")


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a container says of its video: seconds and frames are 0 where it does not know."""

    seconds: float
    frames: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame: uint8 (height, width, 3) pixels, and nanoseconds since the first frame of the video."""

    pixels: NDArray[np.uint8]
    time: int


class Video:
    """A video file and what to take of it."""

    def __init__(self, path: str | Path, options: VideoOptions | None = None) -> None:
        """Look at the file.

        Raises:
            VideoError: no such file, no video in it, or no PyAV to read it.
        """
        self.path = Path(path).expanduser()
        self.options = options or VideoOptions()
        container = self._open()
        with container:
            self.info = _info(container, self._stream(container))

    def pictures(self, only: Container[int] | None = None) -> Iterator[Picture]:
        """Decode, in the order of time.

        Args:
            only: numbers of the frames to give out, counted from 0 in the chosen span; None for all.

        Raises:
            VideoError: a frame cannot be decoded (says how far it went), or there is none in the chosen span.
        """
        count = 0
        now = 0.0
        try:
            for frame, moment in self._selected():
                now = float(moment)
                if only is None or count in only:
                    yield Picture(self._pixels(frame), round(moment * 1_000_000_000))
                count += 1
        # Some errors of FFmpeg are ordinary ones as well, some are only its own.
        except (_av().error.FFmpegError, OSError, ValueError, ArithmeticError) as err:
            hint = f" `--duration {now - self.options.start:.3f}` takes what is readable." if count > 1 else ""
            raise VideoError(
                f"Video {str(self.path)!r} is damaged after {count} frames ({now:.2f} s): {err}.{hint}"
            ) from err
        if not count:
            raise VideoError(
                f"Video {str(self.path)!r} has no frame from {self.options.start:g} s on; "
                f"it lasts {self.info.seconds:.2f} s."
            )

    def _selected(self) -> Iterator[tuple[VideoFrame, Fraction]]:
        options = self.options
        begin = Fraction(options.start)
        end = None if options.duration is None else begin + Fraction(options.duration)
        step = None if options.fps is None else 1 / Fraction(options.fps).limit_denominator(100_000)
        taken = 0
        first: Fraction | None = None
        last: Fraction | None = None
        container = self._open()
        with container:
            stream = self._stream(container)
            for frame in container.decode(stream):
                if frame.pts is None or frame.time_base is None:
                    raise ValueError("a frame has no time stamp")
                time = frame.pts * Fraction(frame.time_base)
                first = time if first is None else first
                moment = time - first
                if last is not None and moment <= last:
                    raise ValueError(f"frame times stand still or run backwards at {float(moment):.3f} s")
                last = moment
                if moment < begin:
                    continue
                if end is not None and moment >= end:
                    return
                if step is not None:
                    # Counted from the beginning, so that the mean rate is exact whatever the frame times are.
                    if moment < begin + taken * step:
                        continue
                    taken = (moment - begin) // step + 1
                yield frame, moment

    def _pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        # Phones store portrait video sideways and say so in the frame's side data.
        turns = round(frame.rotation / 90) % 4
        width, height = self.options.size or (None, None)
        if turns % 2:
            width, height = height, width
        scaled = frame.reformat(width=width, height=height, format=_FORMATS[self.options.encoding])
        return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns))

    def _open(self) -> InputContainer:
        av = _av()
        if not self.path.is_file():
            raise VideoError(f"Video {str(self.path)!r} {'is a folder' if self.path.is_dir() else 'does not exist'}.")
        try:
            return cast("InputContainer", av.open(str(self.path)))
        except (av.error.FFmpegError, OSError, ValueError) as err:
            raise VideoError(
                f"File {str(self.path)!r} cannot be opened as a video: {err}. "
                "If it should be one, `ffprobe` tells more."
            ) from err

    def _stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise VideoError(
                f"File {str(self.path)!r} holds no video, only: {', '.join(s.type for s in container.streams)}."
            )
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return stream


def _av() -> ModuleType:
    # On a robot it comes by pip, and only this needs it.
    try:
        import av
    except ImportError as err:
        raise VideoError(
            f"Reading video files needs PyAV, which cannot be imported: {err}. Run `pip install av`."
        ) from err
    return av


def _info(container: InputContainer, stream: VideoStream) -> VideoInfo:
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / 1_000_000
    return VideoInfo(seconds, stream.frames, float(stream.average_rate or 0), stream.width, stream.height)
