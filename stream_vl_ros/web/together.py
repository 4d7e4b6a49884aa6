"""Node, recording and live page at once: `python -m stream_vl_ros.web.together`, or `make web`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stream_vl_ros.demo.errors import DemoError
from stream_vl_ros.demo.installed import environment, make_folder, node_command, parameter, whereabouts
from stream_vl_ros.demo.main import BAG
from stream_vl_ros.demo.processes import Child, end_all, interruptible
from stream_vl_ros.errors import StreamVLError

_TOPIC = "/camera/image_raw"
# It is left open, and the recording never ends.
_BOUNDED = {"eviction": "importance", "budget_seconds": "300.0"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m stream_vl_ros.web.together",
        description="Start the node and its live page. Without --topic, a recording is replayed to it in a loop, on a "
        "ROS domain of its own.",
    )
    p.add_argument("--topic", default="", help="image topic of a camera (default: none, a recording instead)")
    p.add_argument("--bag", type=Path, default=BAG, help="recording (default: the one that comes with the package)")
    p.add_argument("--model", default="embedded", help="embedded, random, a folder, or a hub id (default: embedded)")
    p.add_argument("--port", type=int, default=8321, help="of the page; 0 for any that is free (default: 8321)")
    p.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME:=VALUE", help="a parameter of the node"
    )
    p.add_argument("--log-dir", type=Path, metavar="FOLDER", help="keep the logs of the processes here")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C, which is exit status 0."""
    args = parser().parse_args(sys.argv[1:] if argv is None else argv)
    interruptible()
    children: list[Child] = []
    try:
        with tempfile.TemporaryDirectory(prefix="stream_vl_web_") as scratch:
            try:
                _run(args, args.log_dir or Path(scratch), children)
            finally:
                end_all(children)
    except StreamVLError as error:
        print(f"web: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nweb: stopped", file=sys.stderr)
    return 0


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """The processes by name."""
    values = {"model": args.model, "image_topic": args.topic or _TOPIC}
    if not args.topic:
        values |= {"qos_reliability": "reliable", "qos_depth": "100", **_BOUNDED}
    values |= dict(parameter(text) for text in args.parameters)
    node = [*node_command(), "--ros-args"]
    for name, value in values.items():
        node += ["-p", f"{name}:={value}"]
    web = [sys.executable, "-m", "stream_vl_ros.web.main", "--ros-args", "-p", f"port:={args.port}"]
    found = {"node": node, "page": [*web, "-p", "open_browser:=true"]}
    if not args.topic:
        # The node and the page.
        waiting = ("--wait-for-subscribers", "2", "--wait-timeout", "900")
        replay = (sys.executable, "-m", "stream_vl_ros.bag.replay", str(args.bag), "--to", _TOPIC, "--loop", *waiting)
        found["replay"] = list(replay)
    return found


def _run(args: argparse.Namespace, logs: Path, children: list[Child]) -> None:
    make_folder(logs)
    # A camera is where its robot is; the recording needs nobody.
    env = environment() if not args.topic else {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA", **os.environ}
    for name, command in commands(args).items():
        children.append(Child(name, command, env={**env, "PYTHONUNBUFFERED": "1"}, log=logs / f"{name}.log"))
    page = next(child for child in children if child.name == "page")
    node = next(child for child in children if child.name == "node")
    told, failures = False, set[str]()
    while True:
        for child in children:
            if child.exit_code is not None:
                raise DemoError(f"The {child.name} ended with code {child.exit_code}. It said:\n{child.tail()}")
        address = re.search(r"the live page is at (\S+)", page.tail())
        if address and not told:
            told = True
            seen = f"camera {args.topic}" if args.topic else f"recording {args.bag}, in a loop"
            print(f"model    {args.model}\nvideo    {seen}\npage     {address[1]}", flush=True)
            if where := whereabouts(env):
                print(f"ROS      {where} (export it in another terminal to ask the node there)", flush=True)
            print("Ctrl-C ends all of it.", flush=True)
        for line in node.tail().splitlines():
            if "[ERROR]" in line and line not in failures:
                failures.add(line)
                print(line, file=sys.stderr, flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
