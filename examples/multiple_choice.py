#!/usr/bin/env python3
"""Multiple choice: how probable is each option as the whole answer?

python examples/multiple_choice.py

All options are scored at once, on a fork of the fork that has read the question.
"""

import math

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import VideoStream, load_model

QUESTIONS = {
    "Where is the green triangle?": ("top left", "top right", "bottom left", "bottom right"),
    "What appeared before the green triangle?": ("a red circle", "a blue square", "a white star"),
    "Did anything red appear so far?": ("yes", "no"),
}


def main() -> None:
    stream = VideoStream(load_model("embedded", device="cpu"))
    stream.append(*demo_clip(end=20.0))
    for question, options in QUESTIONS.items():
        # Sums of log-probabilities; with normalise=True (the default) long options have the same chance as short ones.
        answer = stream.ask_choice(question, options, normalise=False)
        print(f"{question} {answer.text}")
        for option, score in sorted(zip(options, answer.scores, strict=True), key=lambda pair: -pair[1]):
            print(f"  {100 * math.exp(score):6.2f} %  {option}")


if __name__ == "__main__":
    main()
