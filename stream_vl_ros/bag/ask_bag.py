"""Ask questions about a recording, at moments of it, without replaying it.

`ros2 run stream_vl_ros ask_bag BAG -q "What is visible now?" --at 12.5`; `python -m stream_vl_ros.bag.ask_bag` needs
no ROS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from stream_vl_ros.bag.ask_report import Screen, document, print_table
from stream_vl_ros.bag.ask_settings import Settings, settings
from stream_vl_ros.bag.inquiries import AddChoices, AddQuestion, Inquiry, inquiries, moment
from stream_vl_ros.bag.reader import BagReader, Topic
from stream_vl_ros.errors import ConfigError, PromptError, StreamVLError
from stream_vl_ros.ros.parameters import PARAMETERS

if TYPE_CHECKING:
    from stream_vl_ros.bag.asking import Asking
    from stream_vl_ros.engine.loader import LoadedModel

# Parameters with an option of their own; the others are set with -p.
OPTIONS = (
    "model", "device", "dtype", "target_fps", "chunk_frames", "max_pixels", "system_prompt", "max_new_tokens",
)  # fmt: skip
STOPPED = 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="ask_bag",
        description="Run a rosbag2 recording straight into the engine, as fast as it can, and ask questions at moments "
        "of it. The answers are those that the node would give live. Needs no ROS.",
        epilog="Exit status: 0 if every question was answered, 1 if something failed, 2 for a wrong command line, 130 "
        "after Ctrl-C.",
    )
    p.add_argument("bag", metavar="BAG", help="bag folder, or one .mcap or .db3 file")
    p.add_argument("--topic", help="image topic in the bag (default: the only one)")
    asked = p.add_argument_group("questions")
    asked.add_argument(
        "-q",
        "--question",
        action=AddQuestion,
        dest="drafts",
        default=[],
        metavar="TEXT",
        help="a question; may be repeated",
    )
    asked.add_argument(
        "--at",
        action="append",
        type=moment,
        default=[],
        metavar="SECONDS",
        help="when to ask, in seconds from the first image by header stamp, or 'end'; the question sees the images up "
        "to then. Repeated: one for each question, in their order, or several for a single question "
        "(default: at the end)",
    )
    asked.add_argument(
        "--choices",
        action=AddChoices,
        dest="drafts",
        metavar="A,B,C",
        help="options of the question before it; the best one is the answer",
    )
    asked.add_argument(
        "--choice", action=AddChoices, dest="drafts", metavar="TEXT", help="one option, with commas in it; repeated"
    )
    asked.add_argument(
        "--dialogue", action="store_true", help="each question follows those asked before it, and their answers"
    )
    engine = p.add_argument_group("engine", "The node's parameters; an option beats -p, which beats --params-file.")
    defaults = {parameter.name: parameter for parameter in PARAMETERS}
    for name in OPTIONS:
        parameter = defaults[name]
        engine.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=type(parameter.default).__name__.upper().replace("STR", "TEXT"),
            help=f"{parameter.description} (default: {parameter.default})".replace("%", "%%"),
        )
    engine.add_argument(
        "-p",
        action="append",
        default=[],
        dest="parameters",
        metavar="NAME:=VALUE",
        help="any parameter of the node, such as eviction:=window; may be repeated",
    )
    engine.add_argument("--params-file", type=Path, metavar="FILE", help="parameters in the form of ROS, for stream_vl")
    engine.add_argument("--stream", default="", metavar="NAME", help="which of the streams in that file it stands for")
    p.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write one JSON document; without FILE, or with '-', to stdout instead of the table",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    argv = sys.argv[1:] if argv is None else argv
    command_line = parser()
    args = command_line.parse_args(argv)
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    try:
        chosen = settings(args.params_file, args.parameters, options, args.stream)
        asked = inquiries(args.drafts, args.at)
        _check_place(args.json)
    except (ConfigError, PromptError) as err:
        print(f"ask_bag: {err}", file=sys.stderr)
        return 2
    for note in chosen.notes:
        print(f"ask_bag: {note}", file=sys.stderr)
    try:
        with BagReader(args.bag) as bag:
            topic = bag.image_topic(args.topic)
            return _run(bag, topic, asked, chosen, args, shlex.join(["ask_bag", *argv]))
    except StreamVLError as err:
        print(f"ask_bag: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ask_bag: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # Whoever read our lines is gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(
    bag: BagReader, topic: Topic, asked: Sequence[Inquiry], chosen: Settings, args: argparse.Namespace, command: str
) -> int:
    with Screen() as screen, _stopping() as on_stop:
        screen.loading(str(chosen.values["model"]))
        # Imports torch and transformers, which takes seconds.
        from stream_vl_ros.bag.asking import Asking

        model = _load(chosen)
        if not model.answers_mean_something:
            screen.say("ask_bag: this is the seeded random checkpoint: its answers mean nothing")
        asking = Asking(model, chosen.values, bag, topic, asked, screen, dialogue=args.dialogue)
        screen.begin(_seconds(bag, topic, asked))
        on_stop(asking.stop)
        asking.run()
    if args.json:
        _write_json(args.json, document(asking, _environment(model, chosen, command), chosen.used))
    if args.json != "-":
        print_table(asking)
    return _verdict(asking)


def _verdict(asking: Asking) -> int:
    """The exit status; the reason, if it is none of 0, on stderr."""
    frames = asking.status.frames
    if not frames.balanced or frames.received != asking.read:
        print(f"ask_bag: the frames' accounts do not add up: {asking.read} read, {frames}", file=sys.stderr)
        return 1
    if asking.error:
        print(f"ask_bag: {asking.error}", file=sys.stderr)
    if asking.stopped:
        return STOPPED
    return 0 if asking.complete and not asking.error else 1


def _load(chosen: Settings) -> LoadedModel:
    import torch
    import transformers

    from stream_vl_ros.engine.loader import load_model
    from stream_vl_ros.engine.warmup import warm_up
    from stream_vl_ros.ros.parameters import stream_config

    values = chosen.values
    torch.set_num_threads(int(values["cpu_threads"]) or max(1, len(os.sched_getaffinity(0)) // 2))
    transformers.utils.logging.disable_progress_bar()
    model = load_model(str(values["model"]), device=str(values["device"]), dtype=str(values["dtype"]))
    warm_up(model, stream_config(values))
    return model


def _seconds(bag: BagReader, topic: Topic, asked: Sequence[Inquiry]) -> float:
    """Seconds of the recording that will be read, about."""
    first = next(bag.messages(topic))
    whole = (bag.start + bag.duration - first.log_time) / 1e9
    return min(whole, max(math.inf if inquiry.at is None else inquiry.at for inquiry in asked))


def _environment(model: LoadedModel, chosen: Settings, command: str) -> dict[str, Any]:
    from stream_vl_ros.bench.records import environment

    record = environment(argparse.Namespace(), str(model.adapter.device))
    del record["settings"]
    dtype = str(model.adapter.dtype).removeprefix("torch.")
    return record | {"command": command, "model": model.name, "dtype": dtype}


def _check_place(place: str | None) -> None:
    if place in (None, "-"):
        return
    path = Path(place)
    if path.is_dir():
        raise ConfigError(f"--json {place!r} is a folder; name a file.")
    if not path.parent.is_dir():
        raise ConfigError(f"--json {place!r}: there is no folder {str(path.parent)!r}; make it first.")


def _write_json(place: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if place == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        Path(place).write_text(text)
    except OSError as err:
        raise StreamVLError(f"Cannot write {place!r}: {err.strerror}.") from err


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Ctrl-C and SIGTERM end at once, until a way to stop is given; then that is used, the second time at once."""
    ways: list[Callable[[], None]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if not ways:
            raise KeyboardInterrupt
        ways.pop()()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ways.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
