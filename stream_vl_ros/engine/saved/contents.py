"""What a saved memory says: a stream's moment as JSON and tensors, and back, checked against the model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import transformers
from torch import Tensor

from stream_vl_ros import __version__
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.memory.still import LastRead
from stream_vl_ros.engine.saved.belonging import (
    check_model,
    check_prompt,
    opening_ids,
    shape_json,
    size_of,
    text_after_maximum,
)
from stream_vl_ros.engine.saved.fields import Fields
from stream_vl_ros.engine.saved.identity import Identity
from stream_vl_ros.engine.saved.ledger_rows import ledger_from, ledger_json
from stream_vl_ros.engine.saved.state_json import (
    last_read_from,
    last_read_json,
    sampler_from,
    sampler_json,
    state_from,
    state_json,
    waiting_from,
    waiting_json,
)
from stream_vl_ros.engine.saved.tensor_file import TensorSpec
from stream_vl_ros.engine.segments import Segment, Snapshot
from stream_vl_ros.engine.stream_records import StreamSnapshot

# Tensors that a stream has on the model's device; those of its cache are copied there when it takes them in.
ON_DEVICE = frozenset({"last_read.pieces"})
_KINDS = ("keys", "values")
_MOST_SEGMENTS = 4096


@dataclass(frozen=True, slots=True)
class StreamMoment:
    """A moment of a stream with what it depends on: the model, and the settings. Nothing in it ever changes."""

    model: LoadedModel
    config: StreamConfig
    snapshot: StreamSnapshot


@dataclass(frozen=True, slots=True)
class Contents:
    """What memory.json says, read and checked.

    Attributes:
        tensors: name of the file of tensors.
        sha256: of that file, in hex.
        weights: see `Identity.weights`.
        name: of the model that it was made with, for people to read.
        settings: of the stream that it was made of, for people to read.
        tokens, frames: in the cache, and seen so far.
        specs: the tensors in the file.
        snapshot: makes the moment of the tensors. Raises `SavedMemoryError` if they cannot be.
    """

    tensors: str
    sha256: str
    weights: str
    name: str
    settings: Mapping[str, object]
    tokens: int
    frames: int
    specs: list[TensorSpec]
    snapshot: Callable[[Mapping[str, Tensor]], StreamSnapshot]


def described(moment: StreamMoment, model: Identity) -> tuple[dict[str, object], dict[str, Tensor]]:
    """What memory.json says of a moment, but for its file of tensors, and those tensors, which copy nothing."""
    snapshot, shape = moment.snapshot, moment.snapshot.cache.shape
    tensors: dict[str, Tensor] = {}
    system_prompt, text_base = snapshot.prefix
    told: dict[str, object] = {
        "written": {
            "stream_vl_ros": __version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "device": shape.device.type,
            "unix_time": int(time.time()),
        },
        "model": {
            "name": moment.model.name,
            "config": model.config,
            "weights": model.weights,
            **shape_json(shape),
        },
        "prompt": {
            "system_prompt": system_prompt,
            "text_base": text_base,
            "text_after_maximum": text_after_maximum(moment.model, text_base),
            "opening": opening_ids(moment.model, system_prompt),
        },
        "settings": dataclasses.asdict(moment.config),
        "frame_size": None if snapshot.size is None else list(snapshot.size),
        "cache": {"segments": [s.length for s in snapshot.cache.segments], "own": snapshot.cache.own},
        "state": state_json(snapshot.state),
        "ledger": ledger_json(snapshot.state.ledger, tensors),
        "last_read": last_read_json(snapshot.state.last_read, tensors),
        "sampler": sampler_json(snapshot.sampler),
        "waiting": waiting_json(snapshot.pending, tensors),
    }
    for number, segment in enumerate(snapshot.cache.segments):
        for layer, pair in enumerate(segment.layers):
            tensors.update({_name(number, layer, kind): t for kind, t in zip(_KINDS, pair, strict=True)})
    return told, tensors


def understood(told: Fields, model: LoadedModel, config: str) -> Contents:
    """Check what memory.json says.

    Args:
        told: what it says.
        model: that it is to be used with.
        config: see `Identity.config`, of that model.

    Raises:
        SavedMemoryError: with the reason.
    """
    adapter = model.adapter
    told.inner("written")  # for people
    settings = told.inner("settings").whole
    name, weights = check_model(told.inner("model"), model, config)
    prefix, opening = check_prompt(told.inner("prompt"), model)
    size = size_of(told, model)
    grid = None if size is None else adapter.geometry.grid(*size)
    picture = 0 if grid is None else grid[0] * grid[1]
    shape = adapter.cache_shape

    cache = told.inner("cache")
    lengths, own = cache.integers("segments", 1), cache.flag("own")
    cache.check(1 <= len(lengths) <= _MOST_SEGMENTS, "the number of its segments")
    cache.end()
    specs = [
        TensorSpec(_name(number, layer, kind), shape.dtype, (1, shape.kv_heads, length, shape.head_dim))
        for number, length in enumerate(lengths)
        for layer in range(shape.layers)
        for kind in _KINDS
    ]
    state = state_from(told.inner("state"), grid, adapter.tokens_per_second)
    ledger = ledger_from(told.inner("ledger"), specs, layers=shape.layers, heads=shape.kv_heads, picture=picture)
    geometry = adapter.geometry
    has_last_read = told.flag("last_read")
    last_read_from(has_last_read, picture, geometry.factor**2 * 3 * geometry.temporal, specs)
    sampler, waiting_told = sampler_from(told.inner("sampler")), told.objects("waiting")
    waiting = waiting_from(waiting_told, specs)
    told.check(size is not None or not (state.frames or waiting_told), "frames without a size")
    told.check(state.frames > 0 or bool(waiting_told), "not one frame")
    tensors, digest = told.text("tensors"), told.text("sha256")
    told.end()

    def snapshot(given: Mapping[str, Tensor]) -> StreamSnapshot:
        segments = tuple(
            Segment(
                tuple(
                    (given[_name(number, layer, "keys")], given[_name(number, layer, "values")])
                    for layer in range(shape.layers)
                ),
                length,
            )
            for number, length in enumerate(lengths)
        )
        known = ledger(given)
        first = known.blocks[0] if known.blocks else None
        told.check(
            first is not None
            and first.pinned
            and (first.position, first.tokens) == (0, opening)
            and not first.is_video,
            "the ledger does not begin with the prompt",
        )
        told.check(known.tokens == sum(lengths), "the ledger and the cache hold different numbers of tokens")
        told.check(known.frames + known.evicted.frames == state.frames, "the ledger and the state count other frames")
        last = (
            LastRead(*(given[f"last_read.{f.name}"] for f in dataclasses.fields(LastRead))) if has_last_read else None
        )
        return StreamSnapshot(
            Snapshot(segments, own, shape, stored=True),
            replace(state, ledger=known, last_read=last),
            waiting(given),
            size,
            sampler,
            prefix,
        )

    return Contents(tensors, digest, weights, name, settings, sum(lengths), state.frames, specs, snapshot)


def _name(segment: int, layer: int, kind: str) -> str:
    return f"cache.{segment}.{layer}.{kind}"
