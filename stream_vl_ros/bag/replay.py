"""Replay the images of a bag over DDS.

`ros2 run stream_vl_ros replay BAG`, or `python -m stream_vl_ros.bag.replay BAG`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from stream_vl_ros.bag.play_options import CLOCK_HZ, PlayOptions
from stream_vl_ros.bag.reader import Topic
from stream_vl_ros.bag.recording import Recording, open_recording
from stream_vl_ros.bag.reporting import make_report
from stream_vl_ros.errors import BagError, ConfigError, StreamVLError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="replay",
        description="Replay the images of a rosbag2 recording or a video file over DDS, with their recorded timing.",
        epilog="Both sides need FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA for images above 512 KiB with best effort.",
    )
    p.add_argument("bag", metavar="BAG", help="bag folder, one .mcap or .db3 file, or a video file")
    which = p.add_mutually_exclusive_group()
    which.add_argument(
        "--topic",
        action="append",
        default=[],
        help="image topic in the bag; may be repeated (default: the only one)",
    )
    which.add_argument("--all-topics", action="store_true", help="every image topic of the bag")
    p.add_argument(
        "--to",
        "--remap-topic",
        action="append",
        default=[],
        metavar="TOPIC",
        help="topic to publish on (default: the recorded one); repeated, one for each --topic, in their order",
    )
    p.add_argument("--rate", type=float, default=1.0, help="speed, 2 is twice as fast (default: 1)")
    p.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="leave out the beginning (default: 0)")
    p.add_argument(
        "--duration", type=float, metavar="SECONDS", help="replay so much of the recording (default: to the end)"
    )
    p.add_argument("--loop", action="store_true", help="begin again at the end, until Ctrl-C")
    p.add_argument(
        "--loop-stamps",
        choices=("grow", "repeat"),
        default="grow",
        help="in the next rounds, header stamps and clock go on growing, or are the recorded ones again and jump back, "
        "as with `ros2 bag play --loop` (default: grow)",
    )
    p.add_argument(
        "--clock",
        type=_frequency,
        nargs="?",
        const=CLOCK_HZ,
        default=0.0,
        metavar="HZ",
        help=f"publish the recording's time on /clock so many times per second (without HZ: {CLOCK_HZ:.0f})",
    )
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
        help="wait until N subscribers are there, on each topic (default: 0)",
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


def _frequency(text: str) -> float:
    try:
        hz = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a frequency; write --clock 40, or BAG in front of --clock"
        ) from None
    # No clock at all is what 0 means inside; nobody asks for that by asking for a clock.
    if not hz > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0 Hz; leave --clock out for no clock")
    return hz


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 at the end of the bag and after Ctrl-C."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        with open_recording(args.bag) as bag:
            topics = _topics(bag, args)
            return _play(bag, topics, _options(args, topics), args)
    except StreamVLError as err:
        print(f"replay: {err}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our lines is gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _topics(bag: Recording, args: argparse.Namespace) -> tuple[Topic, ...]:
    if args.all_topics:
        return bag.filled_image_topics()
    if not args.topic:
        return (bag.image_topic(hint="Name some of them with --topic, or replay all with --all-topics."),)
    topics = tuple(bag.image_topic(name) for name in args.topic)
    for topic in topics:
        if topics.count(topic) > 1:
            raise BagError(f"--topic {topic.name} is given {topics.count(topic)} times; once is enough.")
    return topics


def _options(args: argparse.Namespace, topics: tuple[Topic, ...]) -> PlayOptions:
    if args.to and len(args.to) != len(topics):
        raise ConfigError(
            f"--to names {len(args.to)} topics but {len(topics)} are replayed "
            f"({', '.join(topic.name for topic in topics)}). Give one --to for each --topic, in the same order."
        )
    return PlayOptions(
        to=dict(zip((topic.name for topic in topics), args.to, strict=False)),
        rate=args.rate,
        start=args.start,
        duration=args.duration,
        loop=args.loop,
        loop_stamps=args.loop_stamps,
        clock=args.clock,
        reliable=args.reliable,
        depth=args.depth,
        subscribers=args.wait_for_subscribers,
        subscriber_timeout=args.wait_timeout,
        stamps=args.stamps,
    )


def _play(bag: Recording, topics: tuple[Topic, ...], options: PlayOptions, args: argparse.Namespace) -> int:
    try:
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        from stream_vl_ros.bag.player import Player
    except ImportError as err:
        raise StreamVLError(
            f"Replaying needs ROS 2's rclpy and messages, which cannot be imported: {err}. Source ROS 2 first."
        ) from err

    report = make_report(bar=args.progress, as_json=args.progress_json)
    # rclpy's own handlers would tear the context down in the middle of a publication.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("replay", start_parameter_services=False, enable_rosout=False)
        try:
            player = Player(node, bag, topics, options, report)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: player.stop())
            result = player.run()
        finally:
            # Others would take it for alive until its lease is over.
            node.destroy_node()
        return 0 if result.acknowledged or result.stopped else 3
    finally:
        report.close()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
