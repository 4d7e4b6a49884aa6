"""Turn a video file into a bag.

`ros2 run stream_vl_ros video_to_bag VIDEO`, or `python -m stream_vl_ros.bag.video_to_bag VIDEO`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stream_vl_ros.bag.writer import ImageBagWriter, check_free
from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.video import Video, VideoOptions

# A header stamp of zero means "no time" to many nodes, so the first frame gets a round moment instead.
STAMP_ORIGIN = 1_700_000_000.0
_LAST_STAMP = 2_147_000_000  # of the 2**31 seconds of a stamp; the video comes after it


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="video_to_bag", description="Turn a video file into a rosbag2 recording of sensor_msgs/msg/Image."
    )
    p.add_argument("video", metavar="VIDEO", help="any file that FFmpeg reads")
    p.add_argument("--out", type=Path, metavar="FOLDER", help="bag to write (default: the video's name, here)")
    p.add_argument("--topic", default="/camera/image_raw", help="image topic (default: /camera/image_raw)")
    p.add_argument("--frame-id", default="camera", help="frame_id of the headers (default: camera)")
    p.add_argument("--fps", type=float, help="at most so many frames per second; kept frames keep their times")
    p.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="leave out the beginning (default: 0)")
    p.add_argument("--duration", type=float, metavar="SECONDS", help="take so much (default: to the end)")
    p.add_argument("--size", type=_size, metavar="WxH", help="scale to this many pixels, such as 640x480")
    p.add_argument("--encoding", choices=("rgb8", "bgr8"), default="rgb8", help="channel order (default: rgb8)")
    p.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="file format (default: mcap)")
    p.add_argument(
        "--stamp-origin",
        type=_stamp,
        default=STAMP_ORIGIN,
        metavar="SECONDS",
        help=f"header stamp of the video's first frame (default: {STAMP_ORIGIN:.0f})",
    )
    p.add_argument("--force", action="store_true", help="replace a bag that is there")
    return p


def _stamp(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < _LAST_STAMP:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds from 0 to {_LAST_STAMP}, as a stamp holds them")
    return seconds


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write WIDTHxHEIGHT, such as 640x480")
    return int(width), int(height)


def convert(video: Video, writer: ImageBagWriter, *, stamp_origin: float = STAMP_ORIGIN) -> int:
    """Write the chosen pictures of `video`; returns how many.

    Raises:
        VideoError: the video is damaged. No bag is left behind then.
        BagError: the bag cannot be written. None is left behind either.
    """
    origin = round(stamp_origin * 1_000_000_000)
    span = _span(video)
    with (
        writer,
        Progress(
            TextColumn(video.path.name),
            BarColumn(),
            TextColumn("{task.completed:.1f} of {task.total:.1f} s, {task.fields[images]} images"),
            TimeElapsedColumn(),
            console=(console := Console(stderr=True)),
            disable=not console.is_terminal,
        ) as bar,
    ):
        task = bar.add_task("", total=span, images=0)
        for picture in video.pictures():
            writer.write(picture.pixels, origin + picture.time)
            bar.update(task, completed=picture.time / 1e9 - video.options.start, images=writer.count)
    return writer.count


def _span(video: Video) -> float:
    rest = max(0.0, video.info.seconds - video.options.start)
    return rest if video.options.duration is None else min(rest, video.options.duration)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    out = args.out or Path(Path(args.video).stem)
    try:
        check_free(out, force=args.force)
        options = VideoOptions(
            start=args.start, duration=args.duration, fps=args.fps, size=args.size, encoding=args.encoding
        )
        writer = ImageBagWriter(
            out,
            topic=args.topic,
            frame_id=args.frame_id,
            encoding=args.encoding,
            storage=args.storage,
            force=args.force,
        )
        count = convert(Video(args.video, options), writer, stamp_origin=args.stamp_origin)
    except StreamVLError as err:
        print(f"video_to_bag: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("video_to_bag: stopped, no bag was written", file=sys.stderr)
        return 130
    print(f"{out}: {count} images on {args.topic}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
