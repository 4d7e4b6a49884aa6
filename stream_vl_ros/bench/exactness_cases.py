"""Questions at moments of a stream, answered by the engine and by native inference in one shot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stream_vl_ros.bench.native import NativeAnswer, NativeModel, user_turn
from stream_vl_ros.engine import LoadedModel, StreamConfig, VideoStream
from stream_vl_ros.engine.positions import VideoSegment
from stream_vl_ros.engine.units import NANOSECONDS

CADENCES = (0.37, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 12.5, 15.0, 24.0, 25.0, 29.97, 30.0)
"""Frames per second."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A clip, how it is streamed, and what is asked when.

    Attributes:
        pictures: uint8 (frames, height, width, 3).
        fps: cadence; 0 for the times in `stamps`.
        stamps: seconds of every frame, increasing.
        chunk_frames, text_base: as in `StreamConfig`.
        moments: how many frames have arrived when a question is asked, increasing, and the question.
        source: where the pictures are from.
    """

    pictures: np.ndarray
    fps: float
    stamps: tuple[float, ...]
    chunk_frames: int
    text_base: Literal["trained", "transformers"]
    moments: tuple[tuple[int, str], ...]
    source: str = ""

    def __str__(self) -> str:
        height, width = self.pictures.shape[1:3]
        cadence = f"{self.fps:g} fps" if self.fps else f"stamps {self.stamps}"
        return (
            f"{self.source} {len(self.pictures)} frames of {width}x{height}, {cadence}, chunks of {self.chunk_frames}, "
            f"text base {self.text_base}, asked at {[m for m, _ in self.moments]}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One question at one moment, answered by both.

    Attributes:
        frames: that had arrived.
        difference: largest absolute difference of the logits of the first token.
        rms: root mean square of the differences.
        margin: between the two largest logits of native inference, at the first token.
        same: whether all tokens are the same.
        ours: logits of the engine, float32 (vocabulary,) on the CPU.
        answer: of the engine.
        expected: native inference's answer.
    """

    frames: int
    difference: float
    rms: float
    margin: float
    same: bool
    ours: Tensor
    answer: tuple[int, ...]
    expected: NativeAnswer


def stream_of(model: LoadedModel, case: Case) -> VideoStream:
    """An empty stream with the settings of a case."""
    config = StreamConfig(target_fps=0, chunk_frames=case.chunk_frames, text_base=case.text_base)
    return VideoStream(model, config)


def compare(model: LoadedModel, native: NativeModel, case: Case, max_new_tokens: int) -> Iterator[Pair]:
    """Show the frames one by one, ask at every moment, and do the same natively with the frames up to then.

    The stream is asked on its way: an answer that disturbed it, or that depends on where its chunks end, shows in this
    pair or a later one.
    """
    stream, shown = stream_of(model, case), 0
    for frames, question in case.moments:
        stream.append(case.pictures[shown:frames], case.stamps[shown:frames])
        shown = frames
        answer = stream.ask(question, max_new_tokens=max_new_tokens).token_ids
        ours = first_logits(stream, question)
        expected = one_shot(native, case, frames, question, max_new_tokens)
        apart = ours - expected.logits
        top = expected.logits.topk(2).values
        yield Pair(
            frames=frames,
            difference=float(apart.abs().max()),
            rms=float(apart.square().mean().sqrt()),
            margin=float(top[0] - top[1]),
            same=answer == expected.token_ids,
            ours=ours,
            answer=answer,
            expected=expected,
        )


def first_logits(stream: VideoStream, question: str) -> Tensor:
    """The engine's scores of an answer's first token, float32 (vocabulary,) on the CPU."""
    with stream.fork() as fork:
        return fork.feed(stream.pieces.ask.tokens(stream.model.tokenizer, question=question)).float().cpu()


def one_shot(native: NativeModel, case: Case, frames: int, question: str, max_new_tokens: int) -> NativeAnswer:
    """Native inference over the first frames of a case. Special tokens in the question are plain text."""
    video, fps = case.pictures[:frames], case.fps or 2.0
    plain = native.processor.tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids
    if plain == native.processor.tokenizer(question, add_special_tokens=False).input_ids:
        inputs = native.inputs(native.prompt([user_turn(question)]), [video], fps)
    else:
        inputs = native.inputs(native.prompt([user_turn("X")]), [video], fps)
        ids = inputs["input_ids"][0].tolist()
        end = native.processor.tokenizer.convert_tokens_to_ids("<|vision_end|>")
        at = ids.index(end) + 1  # the one token of X
        whole = torch.tensor([[*ids[:at], *plain, *ids[at + 1 :]]], device=native.model.device)
        kinds = (whole == native.model.config.video_token_id).int() * int(inputs["mm_token_type_ids"].max())
        inputs |= {"input_ids": whole, "attention_mask": torch.ones_like(whole), "mm_token_type_ids": kinds}
    times = None if case.fps else [case.stamps[:frames:2]]
    return native.generate(inputs, max_new_tokens, text_base=case.text_base, patch_times=times)


def agrees(fps: float, frames: int, rate: Fraction | float | None) -> bool:
    """Whether transformers' float32 product of time is what exact arithmetic gives, for so many frames.

    At some cadences it falls one position short late in a clip. The engine counts exactly, and native inference is no
    reference there.
    """
    if rate is None:
        return True
    product = torch.arange(-(-frames // 2)) * (torch.tensor(2 / fps, dtype=torch.float32) * float(rate))
    return product.long().tolist() == _exact_times(fps, frames, rate)


def referable(model: LoadedModel, case: Case) -> Case:
    """The case, or the same with the trained text base where the installed transformers misplaces its frames in time.

    Releases up to 5.17 cut seconds per pair of frames to whole ones, so that above 2 frames a second all frames share
    one moment. Native inference is a reference then only with positions that it is told.
    """
    rate = model.adapter.tokens_per_second
    if case.text_base == "trained" or not case.fps or rate is None:
        return case
    pairs = -(-len(case.pictures) // 2)
    config, merge = model.native.config, model.adapter.geometry.merge
    ids = [config.vision_start_token_id, *[config.video_token_id] * pairs, config.vision_end_token_id]
    positions, _ = model.native.model.get_rope_index(
        torch.tensor([ids]),
        mm_token_type_ids=torch.tensor([[0, *[2] * pairs, 0]]),
        video_grid_thw=torch.tensor([[pairs, merge, merge]]),
        second_per_grid_ts=torch.tensor([2 / case.fps]),
    )
    times = (positions[0, 0, 1:-1] - positions[0, 0, 1]).tolist()
    return case if times == _exact_times(case.fps, len(case.pictures), rate) else replace(case, text_base="trained")


def _exact_times(fps: float, frames: int, rate: Fraction | float) -> list[int]:
    seconds = [round(i / fps * NANOSECONDS) for i in range(0, frames, 2)]
    times: list[int] = VideoSegment(0, (1, 1), Fraction(rate)).extend(seconds)[1][0].tolist()
    return times
