"""A whole video file, as the model family's reference code (qwen-vl-utils) reads it: which frames, and how large.

That code takes evenly spread frames, about `fps` of them a second, the last one of the file always included, and shares
a budget of pixels among them. Its own readers need a decoder that is not to be had everywhere; here its rules are asked
for the numbers, and PyAV decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from qwen_vl_utils import vision_process as reference

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.errors import VideoError
from stream_vl_ros.video import Video

# Pixels of a side of one visual token.
_FACTOR = 28
# Part of the model's context that the reference code leaves to the video.
_VIDEO_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class VideoFile:
    """The frames of a file that a model is to see.

    Attributes:
        path: the file.
        numbers: which of its frames, counted from 0.
        fps: cadence of these frames, per second.
        max_pixels: pixels of one of them at the most.
    """

    path: Path
    numbers: tuple[int, ...]
    fps: float
    max_pixels: int

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        """Decode as it goes: pictures, uint8 (height, width, 3) in RGB, and their seconds in the sampled video."""
        pictures = Video(self.path).pictures(frozenset(self.numbers))
        for i, picture in enumerate(pictures):
            yield picture.pixels, i / self.fps


def open_video(
    path: str | Path, *, fps: float = reference.FPS, start: float = 0.0, end: float | None = None
) -> VideoFile:
    """Look at a video file and choose its frames.

    Args:
        path: the file.
        fps: frames to take per second.
        start, end: seconds of the file to look at; None is its end.

    Raises:
        VideoError: if it cannot be read, or is too short for a pair of frames.
    """
    video = Video(path)
    total = video.info.frames or sum(1 for _ in video.pictures())
    try:
        span = {"video_start": start} | ({} if end is None else {"video_end": end})
        first, last, count = reference.calculate_video_frame_range(span, total, video.info.fps)
        taken = reference.smart_nframes({"fps": fps}, total_frames=count, video_fps=video.info.fps)
    except (ValueError, ZeroDivisionError) as error:
        raise VideoError(
            f"Video {str(path)!r} of {total} frames at {video.info.fps:g} fps: no frames can be chosen at fps={fps}, "
            f"start={start}, end={end}: {error}"
        ) from error
    numbers = np.linspace(first, last, taken).round().astype(int)
    return VideoFile(video.path, tuple(numbers.tolist()), taken / count * video.info.fps, _pixels_per_frame(taken))


def _pixels_per_frame(frames: int) -> int:
    # As in `fetch_video`, which has no function for it.
    token = _FACTOR**2
    shared = reference.MODEL_SEQ_LEN * _VIDEO_SHARE * token / frames * reference.FRAME_FACTOR
    least = int(reference.VIDEO_MIN_TOKEN_NUM * token * 1.05)
    return int(max(min(reference.VIDEO_MAX_TOKEN_NUM * token, shared), least))


def watch_file(
    model: LoadedModel,
    path: str | Path,
    *,
    fps: float = reference.FPS,
    config: StreamConfig | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> VideoStream:
    """A stream that has seen a video file, frames chosen as `open_video` does.

    Args:
        model: what watches.
        path: the file.
        fps: frames to take per second.
        config: other settings; `target_fps` and, unless it is set, `max_pixels` follow the file.
        tick: called after every frame with how many were seen and how many there are.

    Raises:
        VideoError: if the file cannot be read.

    >>> from stream_vl_ros.engine import load_model, watch_file
    >>> watch_file(load_model("embedded", device="cpu"), "street.mp4")
    Traceback (most recent call last):
    stream_vl_ros.errors.VideoError: Video 'street.mp4' does not exist.
    """
    file = open_video(path, fps=fps)
    config = config or StreamConfig()
    largest = config.max_pixels or min(file.max_pixels, model.adapter.geometry.max_pixels)
    config = replace(config, target_fps=0.0, max_pixels=largest)
    stream = VideoStream(model, config)
    for seen, (pixels, seconds) in enumerate(file, 1):
        stream.append(pixels[np.newaxis], [seconds])
        if tick is not None:
            tick(seen, len(file))
    return stream
