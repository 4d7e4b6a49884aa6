"""The demo command: `python -m stream_vl_ros.demo`, or `make demo`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.demo.errors import DemoError
from stream_vl_ros.demo.installed import environment, make_folder, node_command, parameter, whereabouts
from stream_vl_ros.demo.processes import interruptible
from stream_vl_ros.demo.questions import DEMO_BAG, spread_over
from stream_vl_ros.demo.records import problems
from stream_vl_ros.demo.session import RANDOM_WARNING, Plan, Session
from stream_vl_ros.demo.timeline import Timeline
from stream_vl_ros.errors import StreamVLError

BAG = Path(__file__).resolve().parents[1] / "data" / "demo_bag"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m stream_vl_ros.demo",
        description="Start the node, replay a bag to it from a second process, and ask it questions from a third one "
        "while frames keep arriving. Exit status: 0 if every question was answered and every frame is accounted for.",
    )
    p.add_argument(
        "--bag", type=Path, help="bag folder, .mcap or .db3 file (default: the one that comes with the package)"
    )
    p.add_argument("--topic", help="image topic in the bag (default: the only one)")
    p.add_argument("--model", default="embedded", help="embedded, random, a folder, or a hub id (default: embedded)")
    p.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    p.add_argument("--rate", type=float, default=1.0, help="speed of the replay (default: 1)")
    p.add_argument(
        "--ask", action="append", default=[], metavar="QUESTION", help="ask this, at even distances; may be repeated"
    )
    p.add_argument("--max-new-tokens", type=int, default=64, help="longest free answer, in tokens (default: 64)")
    p.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for one answer (default: 60)")
    p.add_argument("--load-timeout", type=float, default=900.0, metavar="SECONDS", help="for the model (default: 900)")
    p.add_argument(
        "--drain-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="without progress after the replay (default: 60)",
    )
    p.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="another parameter of the node",
    )
    p.add_argument("--log-dir", type=Path, metavar="FOLDER", help="keep the logs of the processes here")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    interruptible()
    try:
        with Timeline() as timeline:
            return _run(args, timeline)
    except StreamVLError as err:
        print(f"demo: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace, timeline: Timeline) -> int:
    with tempfile.TemporaryDirectory(prefix="stream_vl_demo_") as scratch:
        logs = args.log_dir or Path(scratch)
        make_folder(logs)
        plan = _plan(args, logs)
        timeline.say(f"bag      {plan.bag}")
        timeline.say(f"topic    {plan.topic}, {plan.images} images, {plan.seconds:.1f} s, replayed {plan.rate:g} x")
        env = environment()
        timeline.say(f"ROS      {whereabouts(env)} (export both in another terminal to ask the node there)")
        session = Session(plan, env, timeline)
        try:
            session.run()
        except DemoError:
            if session.asked:
                timeline.summary(session.asked, session.published, session.status)
            raise
        finally:
            session.close()
    timeline.summary(session.asked, session.published, session.status)
    if session.status.is_random:
        timeline.say(RANDOM_WARNING, "bold yellow")
    found = problems(session.asked, session.published, session.status)
    for problem in found:
        timeline.fail(f"FAILED: {problem}")
    if not found:
        timeline.say("Every question was answered and every frame is accounted for.", "bold green")
    return 1 if found else 0


def _plan(args: argparse.Namespace, logs: Path) -> Plan:
    path: Path = args.bag or BAG
    with BagReader(path) as bag:
        topic = bag.image_topic(args.topic)
        first = next(bag.messages(topic))
        seconds = (bag.start + bag.duration - first.log_time) / 1e9
    if topic.msgtype != "sensor_msgs/msg/Image":
        raise DemoError(
            f"Topic {topic.name} of bag {str(path)!r} holds {topic.msgtype}; the node takes sensor_msgs/msg/Image. "
            "`ros2 run image_transport republish` turns one into the other."
        )
    # The prepared questions are about what the packaged recording shows.
    questions = spread_over(seconds, args.ask) if args.ask or args.bag is not None else DEMO_BAG
    return Plan(
        bag=path,
        topic=topic.name,
        images=topic.count,
        seconds=seconds,
        questions=questions,
        model=args.model,
        device=args.device,
        node=node_command(),
        node_parameters=dict(parameter(text) for text in args.parameters),
        rate=args.rate,
        answer_timeout=args.timeout,
        load_timeout=args.load_timeout,
        drain_timeout=args.drain_timeout,
        max_new_tokens=args.max_new_tokens,
        logs=logs,
    )
