"""What settings come to for a model and its pictures, before anything changes."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.memory.keeper import MemoryKeeper
from stream_vl_ros.engine.prompt import PromptPieces
from stream_vl_ros.engine.reader import Reader, Size
from stream_vl_ros.errors import ConfigError, FrameError


@dataclass(frozen=True, slots=True)
class Feasible:
    """Settings, and what a stream needs to go by them.

    Attributes:
        budget: in tokens; None without one, or as long as no picture's size is known.
    """

    config: StreamConfig
    pieces: PromptPieces
    keeper: MemoryKeeper
    reader: Reader
    budget: int | None


def feasible(model: LoadedModel, config: StreamConfig, size: Size | None = None, what: str = "") -> Feasible:
    """What `config` comes to with pictures that are encoded at `size`.

    Raises:
        PromptError: for a system prompt that cannot be used.
        ConfigError: that names `what`, for a budget that cannot hold two chunks of such pictures.
    """
    pieces = PromptPieces.from_template(model.processor, config.system_prompt)
    keeper = MemoryKeeper(model.adapter, config)
    budget = budget_for(model, keeper, pieces, size, what)
    return Feasible(config, pieces, keeper, Reader(model, pieces, config), budget)


def budget_for(
    model: LoadedModel, keeper: MemoryKeeper, pieces: PromptPieces, size: Size | None, what: str
) -> int | None:
    """The budget in tokens, the prompt's beginning included; None without any, or without a size.

    Raises `ConfigError` that names `what` if it cannot hold two chunks.
    """
    if size is None:
        return None
    try:
        return keeper.budget_for(size, len(pieces.start.tokens(model.tokenizer)))
    except FrameError as error:
        raise ConfigError(f"{what}: {error}") from error
