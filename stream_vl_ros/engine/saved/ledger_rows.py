"""The account of what a cache holds, as tensors of whole numbers: a row for each block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields

import torch
from torch import Tensor

from stream_vl_ros.engine.memory.ledger import BORDER_PLACE, Block, Evicted, Ledger, Survivors
from stream_vl_ros.engine.saved.fields import LARGE, Fields
from stream_vl_ros.engine.saved.tensor_file import TensorSpec
from stream_vl_ros.errors import SavedMemoryError

# What a block is, in this order; anchor is 0 for text, and the last tells whether its places are in a tensor of theirs.
_COLUMNS = ("tokens", "position", "video", "anchor", "frames", "first_ns", "last_ns", "pinned", "border", "sparse")
_MOST_POSITIONS = 2**40
_PARTS = ("sources", "positions", "places")


def ledger_json(ledger: Ledger, tensors: dict[str, Tensor]) -> dict[str, object]:
    """What of a ledger is JSON; the rest is put into `tensors`."""
    survivors = ledger.survivors
    told: dict[str, object] = {"blocks": _blocks_json(ledger.blocks, "ledger.blocks", tensors)}
    told["survivors"] = None
    if survivors is not None:
        told["survivors"] = {
            "tokens": survivors.tokens,
            "blocks": _blocks_json(survivors.blocks, "ledger.survivors.blocks", tensors),
        }
        for part in _PARTS:
            tensors[f"ledger.survivors.{part}"] = torch.stack(getattr(survivors, part))
    told["evicted"] = asdict(ledger.evicted)
    return told


def ledger_from(
    told: Fields, specs: list[TensorSpec], *, layers: int, heads: int, picture: int
) -> Callable[[Mapping[str, Tensor]], Ledger]:
    """Read what `ledger_json` made.

    Args:
        told: the JSON.
        specs: is given the tensors that belong to it.
        layers, heads: of the cache, heads of keys and values.
        picture: visual tokens of a pair of frames.

    Returns:
        What makes the ledger of the tensors. Raises `SavedMemoryError`, as this does, for what cannot be.
    """
    blocks = _blocks_from(told.inner("blocks"), "ledger.blocks", specs, picture)
    survivors, left = None, 0
    if not told.absent("survivors"):
        inner = told.inner("survivors")
        left = inner.integer("tokens", 0)
        survivors = _blocks_from(inner.inner("blocks"), "ledger.survivors.blocks", specs, picture)
        inner.end()
        shape = (layers, heads, left)
        specs += [TensorSpec(f"ledger.survivors.{part}", torch.int64, shape) for part in _PARTS]
    counts = told.inner("evicted")
    evicted = Evicted(
        **{f.name: counts.integer(f.name, -LARGE if f.name.endswith("ns") else 0) for f in fields(Evicted)}
    )
    counts.end()
    told.end()

    def made(tensors: Mapping[str, Tensor]) -> Ledger:
        whole = None
        if survivors is not None:
            known = survivors(tensors)
            limits = {
                "sources": (0, len(known) - 1),
                "positions": (-_MOST_POSITIONS, _MOST_POSITIONS),
                "places": (BORDER_PLACE, picture - 1),
            }
            for part, (low, high) in limits.items():
                _check_range(f"ledger.survivors.{part}", tensors[f"ledger.survivors.{part}"], low, high)
            whole = Survivors(known, *(tensors[f"ledger.survivors.{part}"].unbind() for part in _PARTS))
        return Ledger(blocks(tensors), whole, evicted)

    return made


def _blocks_json(blocks: Sequence[Block], name: str, tensors: dict[str, Tensor]) -> dict[str, object]:
    rows = [
        (b.tokens, b.position, b.is_video, b.anchor or 0, b.frames, b.first_ns, b.last_ns, b.pinned, b.border, s)
        for b, s in ((b, b.places is not None) for b in blocks)
    ]
    places = [b.places for b in blocks if b.places is not None]
    tensors[name] = torch.tensor(rows, dtype=torch.int64).view(-1, len(_COLUMNS))
    tensors[f"{name}.places"] = torch.cat(places) if places else torch.empty(0, dtype=torch.int64)
    return {"count": len(rows), "columns": list(_COLUMNS), "places": sum(len(p) for p in places)}


def _blocks_from(
    told: Fields, name: str, specs: list[TensorSpec], picture: int
) -> Callable[[Mapping[str, Tensor]], tuple[Block, ...]]:
    count, places = told.integer("count", 0), told.integer("places", 0)
    told.check(told.anything("columns") == list(_COLUMNS), f"its columns are not {', '.join(_COLUMNS)}")
    told.end()
    specs += [
        TensorSpec(name, torch.int64, (count, len(_COLUMNS))),
        TensorSpec(f"{name}.places", torch.int64, (places,)),
    ]

    def made(tensors: Mapping[str, Tensor]) -> tuple[Block, ...]:
        all_places = tensors[f"{name}.places"]
        _check_range(f"{name}.places", all_places, 0, picture - 1)
        rows: list[list[int]] = tensors[name].tolist()
        blocks = tuple(_blocks(name, rows, all_places, picture))
        if sum(len(b.places) for b in blocks if b.places is not None) != places:
            raise _contradiction(name, "places are left over")
        return blocks

    return made


def _blocks(name: str, rows: list[list[int]], places: Tensor, picture: int) -> Iterator[Block]:
    begin = 0
    for number, row in enumerate(rows):
        tokens, position, video, anchor, frames, first_ns, last_ns, pinned, border, sparse = row
        flags = (video, pinned, border, sparse)
        right = (
            set(flags) <= {0, 1}
            and tokens >= 0
            and max(abs(position), abs(anchor)) <= _MOST_POSITIONS
            and max(abs(first_ns), abs(last_ns)) <= LARGE
            and (1 <= frames <= LARGE if video else frames == 0)
            and not (video and border)
            and not (sparse and not video)
            and not (video and tokens > picture)
            and not (video and not sparse and tokens != picture)
            and begin + tokens * sparse <= len(places)
        )
        if not right:
            raise _contradiction(name, f"row {number} cannot be: {dict(zip(_COLUMNS, row, strict=True))}")
        own = places[begin : begin + tokens] if sparse else None
        begin += tokens * sparse
        yield Block(
            tokens, position, anchor if video else None, frames, first_ns, last_ns, own, bool(pinned), bool(border)
        )


def _check_range(name: str, values: Tensor, low: int, high: int) -> None:
    if values.numel() and not (low <= int(values.min()) and int(values.max()) <= high):
        raise _contradiction(name, f"values from {int(values.min())} to {int(values.max())} beyond {low} to {high}")


def _contradiction(name: str, what: str) -> SavedMemoryError:
    return SavedMemoryError("damaged", f"the tensor {name} does not fit the rest: {what}")
