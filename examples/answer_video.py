#!/usr/bin/env python3
"""Answer questions about a video file.

python examples/answer_video.py street.mp4 "What is happening?" --model Qwen/Qwen2.5-VL-3B-Instruct

Frames are chosen and sized as qwen-vl-utils, the reference code of the models, does.
"""

import argparse
import sys

from rich.progress import Progress

from stream_vl_ros.engine import load_model, open_video, watch_file
from stream_vl_ros.errors import StreamVLError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("questions", nargs="+")
    parser.add_argument("--model", default="embedded", help="'embedded' knows coloured shapes alone")
    parser.add_argument("--fps", type=float, default=2.0, help="frames to look at per second")
    args = parser.parse_args()

    open_video(args.video, fps=args.fps)  # a wrong path should not wait for a large model
    with Progress() as bar:
        task = bar.add_task("watching")
        stream = watch_file(
            load_model(args.model),
            args.video,
            fps=args.fps,
            tick=lambda seen, total: bar.update(task, completed=seen, total=total),
        )

    for question in args.questions:
        answer = stream.ask(question)
        print(f"{question}  {answer.text}  [{answer.moment.frames} frames, first token {1e3 * answer.ttft:.0f} ms]")


if __name__ == "__main__":
    try:
        main()
    except StreamVLError as error:
        sys.exit(f"answer_video: {error}")
