#!/usr/bin/env python3
"""Watch a camera, and answer what is typed in while it goes on watching.

python examples/watch_camera.py /dev/video0 --model Qwen/Qwen2.5-VL-3B-Instruct
python examples/watch_camera.py street.mp4           # a file as a camera, in real time
python examples/watch_camera.py toy                  # the toy world that the embedded model knows

The memory is bounded: with a budget of 60 s the oldest video is forgotten, and this can run for days.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator

import av
import numpy as np

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import EngineRunner, Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.errors import EngineClosedError, StreamVLError


def camera(source: str) -> Iterator[np.ndarray]:
    """Pictures as they come, uint8 (height, width, 3) in RGB."""
    if source == "toy":
        for picture in demo_clip()[0]:
            yield picture
            time.sleep(0.25)
        return
    live = source.startswith("/dev/")
    with av.open(source, format="v4l2" if live else None) as container:
        started = time.monotonic()
        for frame in container.decode(video=0):
            if not live and frame.time is not None:
                time.sleep(max(0.0, started + frame.time - time.monotonic()))
            yield frame.to_ndarray(format="rgb24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a video device, a video file, or 'toy'")
    parser.add_argument("--model", default="embedded", help="'embedded' knows coloured shapes alone")
    args = parser.parse_args()

    config = StreamConfig(target_fps=2.0, eviction="importance", budget_seconds=60.0)
    with EngineRunner(VideoStream(load_model(args.model), config)) as runner:

        def watch() -> None:
            try:
                for picture in camera(args.source):
                    runner.push(picture, time.monotonic_ns())  # returns at once
                print("(the video is over; its memory is still there)", file=sys.stderr)
            except EngineClosedError:
                pass
            except OSError as error:
                print(f"watch_camera: {args.source}: {error}", file=sys.stderr)

        threading.Thread(target=watch, daemon=True).start()
        print("Ask something, or end with Ctrl-D.", file=sys.stderr)
        for line in sys.stdin:
            if not line.strip():
                continue
            try:
                # The dialogue's earlier turns stand before the question; text comes as it is written.
                asked = runner.ask(Question(line), dialogue="me", on_text=lambda text: print(text, end="", flush=True))
                answer = asked.result()
                print(f"  [{answer.moment.frames} frames seen, first token {1e3 * answer.ttft:.0f} ms]", flush=True)
            except StreamVLError as error:
                print(error, flush=True)


if __name__ == "__main__":
    try:
        main()
    except StreamVLError as error:
        sys.exit(f"watch_camera: {error}")
