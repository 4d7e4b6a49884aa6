"""Whether a memory belongs to the model that it is to be used with, and to what comes with that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import transformers

from stream_vl_ros.brief import shown
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.prompt import PromptPieces
from stream_vl_ros.engine.saved.fields import Fields
from stream_vl_ros.engine.segments import CacheShape
from stream_vl_ros.errors import SavedMemoryError

_MOST_PIXELS = 10**8


def shape_json(shape: CacheShape) -> dict[str, object]:
    """What of a cache's shape does not depend on the device."""
    return {
        "dtype": str(shape.dtype).removeprefix("torch."),
        "layers": shape.layers,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
    }


def text_after_maximum(model: LoadedModel, text_base: str) -> bool:
    """Whether text follows the largest position of a video, which with ``"transformers"`` the release decides."""
    return text_base == "trained" or model.adapter.text_after_maximum


def opening_ids(model: LoadedModel, system_prompt: str) -> list[int]:
    """Token ids of the prompt in front of all video."""
    return PromptPieces.from_template(model.processor, system_prompt).start.tokens(model.tokenizer)


def check_model(told: Fields, model: LoadedModel, config: str) -> tuple[str, str]:
    """The name of the model that a memory was saved with, and the checksum of its weights.

    Raises `SavedMemoryError` (``model``, ``dtype``) if `model`, whose configuration's checksum is `config`, is another.
    """
    name, weights = told.text("name"), told.text("weights")
    here = shape_json(model.adapter.cache_shape)
    dtype = told.text("dtype")
    there = {"dtype": dtype} | {field: told.integer(field, 0) for field in ("layers", "kv_heads", "head_dim")}
    same = told.text("config") == config
    told.end()
    if not same or there | {"dtype": here["dtype"]} != here:
        raise SavedMemoryError(
            "model",
            f"it belongs to the model {name!r}, and {model.name!r} has another configuration: load that model for it",
        )
    if there != here:
        raise SavedMemoryError(
            "dtype", f"it was saved in {dtype}, and the model runs in {here['dtype']}: set dtype to {dtype} for it"
        )
    return name, weights


def check_prompt(told: Fields, model: LoadedModel) -> tuple[tuple[str, str], int]:
    """System prompt and text base of a memory, and the tokens in front of all video.

    Raises `SavedMemoryError` (``prompt``) if they mean something else here.
    """
    system_prompt, text_base = told.text("system_prompt"), told.text("text_base")
    after_maximum, opening = told.flag("text_after_maximum"), told.integers("opening", 0)
    told.check(text_base in ("trained", "transformers"), f"text_base={text_base!r}")
    told.end()
    try:
        same = opening_ids(model, system_prompt) == opening
    except (TypeError, ValueError) as error:  # a prompt that nobody can set
        raise SavedMemoryError("damaged", f"its system prompt cannot be used: {error}") from error
    if not same:
        raise SavedMemoryError(
            "prompt",
            "the tokenizer or the chat template that it was made with turns its system prompt into other tokens; use "
            "the checkpoint's files of that time",
        )
    if after_maximum != text_after_maximum(model, text_base):
        raise SavedMemoryError(
            "prompt",
            "text_base='transformers' means another position of text after video in this release of transformers "
            f"({transformers.__version__}); use the release that it was saved with",
        )
    return (system_prompt, text_base), len(opening)


def other_settings(saved: Mapping[str, object], now: StreamConfig) -> str:
    """Which of the settings that a memory was saved with are others now, in words; empty if none are.

    They are for people: whatever is in there, nothing depends on it.
    """
    pairs = ((f.name, saved[f.name], getattr(now, f.name)) for f in dataclasses.fields(now) if f.name in saved)
    return ", ".join(f"{name} {shown(there)} (now {shown(here)})" for name, there, here in pairs if there != here)


def size_of(told: Fields, model: LoadedModel) -> tuple[int, int] | None:
    """Height and width in pixels that frames are encoded at; None if there was none yet."""
    if told.absent("frame_size"):
        return None
    sides = told.integers("frame_size", 1, _MOST_PIXELS)
    factor = model.adapter.geometry.factor
    right = len(sides) == 2 and not any(side % factor for side in sides) and sides[0] * sides[1] <= _MOST_PIXELS
    told.check(right, f"frame_size={sides[:8]}")
    return sides[0], sides[1]
