"""Where a stream is, as JSON: its segment and positions, its sampler, and the frames that wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.memory.still import LastRead
from stream_vl_ros.engine.positions import VideoSegment
from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.saved.fields import Fields
from stream_vl_ros.engine.saved.tensor_file import TensorSpec
from stream_vl_ros.engine.stream_state import StreamState

_MOST_POSITIONS = 2**40
_MOST_PIXELS = 2**16  # of a side
# Whole numbers of a state that are neither its segment nor tensors.
_COUNTERS = ("position", "frames", "span", "first_stamp_ns", "last_stamp_ns")


def state_json(state: StreamState) -> dict[str, object]:
    """Of a state all but its ledger and the pictures that it compares with."""
    segment: dict[str, object] | None = None
    if state.segment is not None:
        rate = state.segment.tokens_per_second
        grid = list(state.segment.grid)
        segment = asdict(state.segment) | {"grid": grid, "tokens_per_second": None if rate is None else str(rate)}
    return {"segment": segment, "answered": state.answered} | {name: getattr(state, name) for name in _COUNTERS}


def state_from(told: Fields, grid: tuple[int, int] | None, tokens_per_second: Fraction | None) -> StreamState:
    """Read what `state_json` made.

    Args:
        told: the JSON.
        grid: merged rows and columns of the memory's pictures; None if it has none.
        tokens_per_second: of the model.
    """
    segment = None
    if not told.absent("segment"):
        inner = told.inner("segment")
        rate = None if inner.absent("tokens_per_second") else inner.text("tokens_per_second")
        inner.check(rate == (None if tokens_per_second is None else str(tokens_per_second)), "not the model's rate")
        inner.check(grid is not None and inner.integers("grid") == list(grid), "not the grid of its pictures")
        assert grid is not None
        segment = VideoSegment(
            start=inner.integer("start", -_MOST_POSITIONS, _MOST_POSITIONS),
            grid=grid,
            tokens_per_second=tokens_per_second,
            origin_ns=inner.integer("origin_ns"),
            patches=inner.integer("patches", 1),
            last_time=inner.integer("last_time", -_MOST_POSITIONS, _MOST_POSITIONS),
            shift=inner.integer("shift"),
        )
        inner.end()
    state = StreamState(
        segment,
        answered=told.flag("answered"),
        position=told.integer("position", -_MOST_POSITIONS, _MOST_POSITIONS),
        frames=told.integer("frames", 0),
        span=told.integer("span", 0),
        first_stamp_ns=told.integer("first_stamp_ns"),
        last_stamp_ns=told.integer("last_stamp_ns"),
    )
    # Behind a segment it is of no use, and may have been moved back beyond the beginning.
    told.check(segment is not None or state.position >= 0, "text before the beginning")
    told.check(segment is None or state.frames > 0, "a segment without frames")
    told.end()
    return state


def sampler_json(sampler: FrameSampler) -> dict[str, object]:
    """All of a sampler."""
    return {name.lstrip("_"): value for name, value in asdict(sampler).items()}


def sampler_from(told: Fields) -> FrameSampler:
    """Read what `sampler_json` made."""
    fps = told.number("target_fps", 0, 1e9)  # as it was set; the present settings take its place
    times = {
        f.name: told.integer(f.name.lstrip("_"))
        for f in fields(FrameSampler)
        if f.name not in ("target_fps", "max_gap_ns", "span", "restored", "_first_ns")
    }
    sampler = FrameSampler(
        target_fps=fps,
        max_gap_ns=None if told.absent("max_gap_ns") else told.integer("max_gap_ns", 0),
        span=told.integer("span", 0),
        restored=told.flag("restored"),
        _first_ns=None if told.absent("first_ns") else told.integer("first_ns"),
        **times,
    )
    told.end()
    return sampler


def waiting_json(pending: tuple[Frame, ...], tensors: dict[str, Tensor]) -> list[dict[str, object]]:
    """The frames that wait for their chunk; their pictures are put into `tensors`."""
    told: list[dict[str, object]] = []
    for number, frame in enumerate(pending):
        height, width, _ = frame.pixels.shape
        # PyTorch takes neither read-only arrays nor reversed ones, such as BGR seen as RGB: those are copied.
        tensors[f"waiting.{number}"] = torch.from_numpy(np.require(frame.pixels, requirements=["C", "W"]))
        told.append(
            {
                "height": height,
                "width": width,
                "stamp_ns": frame.stamp_ns,
                "time_ns": frame.time_ns,
                "span": frame.span,
            }
        )
    return told


def waiting_from(told: list[Fields], specs: list[TensorSpec]) -> Callable[[Mapping[str, Tensor]], tuple[Frame, ...]]:
    """Read what `waiting_json` made; `specs` is given the tensors that belong to it."""
    sides = [tuple(one.integer(side, 1, _MOST_PIXELS) for side in ("height", "width")) for one in told]
    specs += [TensorSpec(f"waiting.{i}", torch.uint8, (*size, 3)) for i, size in enumerate(sides)]
    places = [(one.integer("stamp_ns"), one.integer("time_ns", 0), one.integer("span", 0)) for one in told]
    for one in told:
        one.end()
    return lambda tensors: tuple(Frame(tensors[f"waiting.{i}"].numpy(), *place) for i, place in enumerate(places))


def last_read_json(last: LastRead | None, tensors: dict[str, Tensor]) -> bool:
    """Whether there are pictures that new ones are compared with; they are put into `tensors`."""
    if last is not None:
        tensors.update({f"last_read.{f.name}": getattr(last, f.name) for f in fields(LastRead)})
    return last is not None


def last_read_from(there: bool, places: int, values: int, specs: list[TensorSpec]) -> None:
    """Add the tensors of a `LastRead` of so many places, and values at each, if it is there."""
    if there:
        specs += [
            TensorSpec("last_read.pieces", torch.float32, (places, values)),
            TensorSpec("last_read.times_ns", torch.int64, (places,)),
            TensorSpec("last_read.numbers", torch.int64, (places,)),
        ]
