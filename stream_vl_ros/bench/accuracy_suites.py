"""What the accuracy bench measures: one function per question that the model card answers."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from stream_vl_ros.bench.accuracy_drawn import draw
from stream_vl_ros.bench.accuracy_score import Score
from stream_vl_ros.engine import LoadedModel, StreamConfig, Turn, VideoStream
from stream_vl_ros.world.heldout import heldout
from stream_vl_ros.world.questions import CHOICE_KINDS, KINDS, ask, choices, follow_up
from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import FRAME_RATES, sample_scene
from stream_vl_ros.world.wordings import Split

NATIVE_LENGTHS = (8, 16, 48)
"""Frames of the clips on which streaming is compared with native inference."""

Tick = Callable[[], None]
"""Called after each clip."""

SEED = 20_26
ASPECTS: dict[str, tuple[int, int]] = {
    "1:1 480x480": (480, 480),
    "4:3 640x480": (480, 640),
    "16:9 640x360": (360, 640),
    "3:4 480x640": (640, 480),
}
"""Camera pictures, height and width in pixels."""


def watch(model: LoadedModel, frames: np.ndarray, stamps: Sequence[float], chunk: int = 4) -> VideoStream:
    """A stream that has seen the frames, each at its own time."""
    stream = VideoStream(model, StreamConfig(chunk_frames=chunk, target_fps=0))
    stream.append(frames, stamps)
    return stream


def lengths(
    model: LoadedModel, columns: Sequence[int], clips: int, split: Split, tick: Tick, seed: int = SEED, chunk: int = 4
) -> Score:
    """Every kind of question by clip length, answered freely at the end of the clip."""
    score = Score()
    for frames in columns:
        for clip in heldout(seed, clips, frames=frames, split=split):
            stream = watch(model, clip.frames(), clip.stamps(), chunk)
            for q in clip.questions:
                score.add(str(frames), q, stream.ask(q.text).text)
            tick()
    return score


def cameras(model: LoadedModel, clips: int, tick: Tick, seed: int = SEED, frames: int = 12) -> Score:
    """Camera pictures of several aspect ratios, which the engine scales to the checkpoint's size."""
    score = Score()
    for name, size in ASPECTS.items():
        for clip in heldout(seed + 1, clips, frames=frames, size=size):
            stream = watch(model, clip.frames(), clip.stamps())
            for q in clip.questions:
                score.add(name, q, stream.ask(q.text).text)
            tick()
    return score


def drawn(model: LoadedModel, clips: int, tick: Tick, seed: int = SEED, frames: int = 12) -> Score:
    """Scenes drawn by another renderer at 640x480, through real JPEG."""
    score = Score()
    for clip in heldout(seed + 5, clips, frames=frames, size=(480, 640)):
        stream = watch(model, draw(clip.scene, clip.seed), clip.stamps())
        for q in clip.questions:
            score.add("drawn by Pillow, JPEG", q, stream.ask(q.text).text)
        tick()
    return score


def scored_choices(model: LoadedModel, columns: Sequence[int], clips: int, tick: Tick, seed: int = SEED) -> Score:
    """Multiple choice by the engine's scoring of the options: the open question, options apart."""
    score = Score()
    for frames in columns:
        for i, clip in enumerate(heldout(seed + 2, clips, frames=frames, kinds=CHOICE_KINDS)):
            stream = watch(model, clip.frames(), clip.stamps())
            for q in clip.questions:
                offered = choices(random.Random(f"{seed}/{frames}/{i}/{q.kind}"), q)
                if offered:
                    score.add(str(frames), q, stream.ask(q.text, offered).text)
            tick()
    return score


def dialogues(model: LoadedModel, clips: int, tick: Tick, seed: int = SEED, frames: int = 24) -> Score:
    """Question, answer, more video, question: remembered, or replayed after all of the video.

    Columns: the first turn, the second one on a stream that remembers the first, and the second one
    with the first (asked and answered earlier) replayed behind all of the video.
    """
    score = Score()
    for i in range(clips):
        rng = random.Random(f"dialogue/{seed}/{i}")
        scene = sample_scene(rng, frames, rng.choice(FRAME_RATES))
        pictures = render(scene, rng.randrange(2**31))
        stamps = [scene.seconds(f) for f in range(frames)]
        half = rng.randrange(4, frames - 3, 2)
        # Across a remembered turn seconds start anew, so they are asked about on one segment alone.
        kinds = [k for k in KINDS if k not in ("when", "ago")]
        first = None
        while first is None:
            first = ask(rng, scene, half - 1, rng.choice(kinds))
        stream = watch(model, pictures[:half], stamps[:half])
        for kind in kinds:
            q = ask(rng, scene, half - 1, kind)
            if q is not None:
                score.add("first turn", q, stream.ask(q.text).text)
        said = stream.ask(first.text).text
        stream.remember(first.text, said)
        stream.append(pictures[half:], stamps[half:])
        replay = watch(model, pictures, stamps)
        history = (Turn(first.text, said),)
        later = [ask(rng, scene, frames - 1, k) for k in kinds]
        later.append(follow_up(rng, scene, frames - 1, first.subject))
        for q in later:
            if q is None:
                continue
            score.add("after more video, remembered", q, stream.ask(q.text).text)
            score.add("after more video, replayed", q, replay.ask(q.text, history=history).text)
        tick()
    return score


def against_native(model: LoadedModel, folder: str, clips: int, tick: Tick, seed: int = SEED) -> dict[str, float]:
    """Streaming against one-shot inference by transformers alone, on the same frames and prompts."""
    from stream_vl_ros.bench.native import NativeModel, user_turn

    native = NativeModel(folder)
    same = asked = right_streaming = right_native = 0
    for frames in NATIVE_LENGTHS:
        for clip in heldout(seed + 3, clips, frames=frames):
            pictures = clip.frames()
            stream = watch(model, pictures, clip.stamps())
            for q in random.Random(clip.seed).sample(clip.questions, min(8, len(clip.questions))):
                inputs = native.inputs(native.prompt([user_turn(q.text)]), [pictures], clip.scene.fps)
                reference = native.generate(inputs, 64, text_base="trained")
                answer = stream.ask(q.text)
                same += answer.token_ids == reference.token_ids
                right_streaming += answer.text == q.answer
                right_native += reference.text == q.answer
                asked += 1
            tick()
    return {
        "asked": asked,
        "identical tokens, %": 100 * same / asked,
        "streaming, %": 100 * right_streaming / asked,
        "native, %": 100 * right_native / asked,
    }


def speed(model: LoadedModel, tick: Tick, seed: int = SEED) -> dict[str, float]:
    """Milliseconds for a chunk of 4 frames, to the first token, and for each token after it."""
    chunk: list[float] = []
    first: list[float] = []
    token: list[float] = []
    for clip in heldout(seed + 4, 6, frames=32, kinds=("visible", "describe", "first")):
        stream = VideoStream(model, StreamConfig(chunk_frames=4, target_fps=0))
        chunk += [r.seconds for r in stream.append(clip.frames(), clip.stamps())]
        for q in clip.questions:
            start = time.perf_counter()
            stream.ask(q.text, max_new_tokens=1)
            middle = time.perf_counter()
            answer = stream.ask(q.text).text
            whole = time.perf_counter() - middle
            first.append(middle - start)
            tokens = len(model.tokenizer(answer).input_ids)
            if tokens > 2:
                token.append((whole - first[-1]) / tokens)
        tick()
    return {
        "chunk of 4 frames, ms": 1e3 * statistics.median(chunk),
        "question to first token, ms": 1e3 * statistics.median(first),
        "each further token, ms": 1e3 * statistics.median(token),
    }
