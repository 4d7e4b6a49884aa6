"""Replay the images of a bag over DDS.

`ros2 run stream_vl_ros replay BAG`, or `python -m stream_vl_ros.bag.replay BAG`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from stream_vl_ros.bag.player import Player, PlayOptions
from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.bag.reporting import make_report
from stream_vl_ros.errors import StreamVLError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="replay",
        description="Replay the images of a rosbag2 recording over DDS, with their recorded timing.",
        epilog="Both sides need FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA for images above 512 KiB with best effort.",
    )
    p.add_argument("bag", metavar="BAG", help="bag folder, or one .mcap or .db3 file")
    p.add_argument("--topic", help="image topic in the bag (default: the only one)")
    p.add_argument("--to", "--remap-topic", metavar="TOPIC", help="topic to publish on (default: the recorded one)")
    p.add_argument("--rate", type=float, default=1.0, help="speed, 2 is twice as fast (default: 1)")
    p.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="leave out the beginning (default: 0)")
    p.add_argument("--loop", action="store_true", help="begin again at the end; header stamps go on growing")
    kind = p.add_mutually_exclusive_group()
    kind.add_argument(
        "--reliable", dest="reliable", action="store_true", default=True, help="reliable delivery (default)"
    )
    kind.add_argument(
        "--best-effort", dest="reliable", action="store_false", help="best-effort delivery, as cameras do"
    )
    p.add_argument("--depth", type=int, default=100, help="images kept for slow subscribers (default: 100)")
    p.add_argument(
        "--wait-for-subscribers",
        type=int,
        default=0,
        metavar="N",
        help="wait until N subscribers are there (default: 0)",
    )
    p.add_argument(
        "--wait-timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="give up waiting for them after (default: 30)",
    )
    p.add_argument(
        "--stamps", choices=("recorded", "now"), default="recorded", help="header stamps (default: as recorded)"
    )
    p.add_argument("--progress", action="store_true", help="show a progress bar on a terminal")
    p.add_argument("--progress-json", action="store_true", help="one JSON line per event on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 at the end of the bag and after Ctrl-C."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        options = PlayOptions(
            to=args.to,
            rate=args.rate,
            start=args.start,
            loop=args.loop,
            reliable=args.reliable,
            depth=args.depth,
            subscribers=args.wait_for_subscribers,
            subscriber_timeout=args.wait_timeout,
            stamps=args.stamps,
        )
        with BagReader(args.bag) as bag:
            return _play(bag, args, options)
    except StreamVLError as err:
        print(f"replay: {err}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our lines is gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _play(bag: BagReader, args: argparse.Namespace, options: PlayOptions) -> int:
    try:
        import rclpy
        from rclpy.signals import SignalHandlerOptions
    except ImportError as err:
        raise StreamVLError(
            f"Replaying needs ROS 2's rclpy, which cannot be imported: {err}. Source ROS 2 first."
        ) from err

    topic = bag.image_topic(args.topic)
    # rclpy's own handlers would tear the context down in the middle of a publication.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("replay", start_parameter_services=False, enable_rosout=False)
        player = Player(node, bag, topic, options, make_report(bar=args.progress, as_json=args.progress_json))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: player.stop())
        result = player.run()
        return 0 if result.acknowledged or result.stopped else 3
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
