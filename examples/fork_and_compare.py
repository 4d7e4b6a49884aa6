#!/usr/bin/env python3
"""Ask two questions about one moment, each on a fork of its own, and later the same ones again.

python examples/fork_and_compare.py

A fork shares the video with the stream and copies nothing; whatever happens on it, the stream does not notice.
"""

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import Question, Turn, VideoStream, load_model

QUESTIONS = ("What is visible now?", "What appeared last?")


def main() -> None:
    frames, stamps = demo_clip()
    stream = VideoStream(load_model("embedded", device="cpu"))
    stream.append(frames[:40], stamps[:40])
    signature = stream.signature()

    # Both forks are taken now; what they see stays as it is, however the stream goes on.
    early = [stream.start(Question(question)) for question in QUESTIONS]
    print(f"forks own {sum(g.fork.cache.own_bytes for g in early)} bytes, and share {stream.cache.memory_bytes}")
    assert stream.signature() == signature

    stream.append(frames[40:], stamps[40:])
    late = [stream.start(Question(question)) for question in QUESTIONS]
    for question, then, now in zip(QUESTIONS, early, late, strict=True):
        print(f"{question:22} at 10 s: {then.run().text:32} at 24 s: {now.run().text}")

    # A follow-up in a dialogue: the earlier turn is replayed on the fork.
    last = stream.ask("What appeared last?")
    place = stream.ask("Where is it?", history=(Turn("What appeared last?", last.text),))
    print(f"What appeared last? {last.text}. Where is it? {place.text}.")


if __name__ == "__main__":
    main()
