#!/usr/bin/env python3
"""Answer questions about a video file.

python examples/answer_video.py street.mp4 "What is happening?" --model Qwen/Qwen2.5-VL-3B-Instruct

Frames are chosen and sized as qwen-vl-utils, the reference code of the models, does.
"""

import argparse
import sys

from rich.progress import track

from stream_vl_ros.engine import StreamConfig, VideoStream, load_model, open_video
from stream_vl_ros.errors import StreamVLError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("questions", nargs="+")
    parser.add_argument("--model", default="embedded", help="'embedded' knows coloured shapes alone")
    parser.add_argument("--fps", type=float, default=2.0, help="frames to look at per second")
    args = parser.parse_args()

    video = open_video(args.video, fps=args.fps)
    model = load_model(args.model)
    limit = min(video.max_pixels, model.adapter.geometry.max_pixels)
    stream = VideoStream(model, StreamConfig(target_fps=0, max_pixels=limit))
    for picture, seconds in track(video, "watching", total=len(video)):
        stream.append(picture[None], [seconds])
    # `watch_file(model, args.video)` does the above in one line, without a bar.

    for question in args.questions:
        answer = stream.ask(question)
        print(f"{question}  {answer.text}  [{answer.moment.frames} frames, first token {1e3 * answer.ttft:.0f} ms]")


if __name__ == "__main__":
    try:
        main()
    except StreamVLError as error:
        sys.exit(f"answer_video: {error}")
