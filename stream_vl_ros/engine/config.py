"""Settings of the engine: frozen, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stream_vl_ros.errors import ConfigError

TextBase = Literal["trained", "transformers"]
QueuePolicy = Literal["drop_oldest", "block"]

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."


def require(condition: bool, name: str, value: object, reason: str) -> None:
    """Raise `ConfigError` naming the setting, its value and the reason unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{name}={value!r}: {reason}")


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How one video stream is encoded.

    Attributes:
        chunk_frames: frames that are encoded together. Any number from 1; only whole temporal patches
            (2 frames) are committed, an odd frame waits for its partner. The value changes speed, not answers.
        target_fps: frames per second kept, by stamp. 0 keeps every frame at its own time.
        max_pixels: pixels of an encoded frame at the most, 0 for the checkpoint's own limit.
        system_prompt: text of the system turn.
        text_base: where text after a video is placed. ``"trained"``: at the largest position + 1, as the
            model was trained. ``"transformers"``: where the installed transformers places it.
        initial_capacity: tokens that the KV cache has room for before it grows for the first time.
    """

    chunk_frames: int = 4
    target_fps: float = 2.0
    max_pixels: int = 0
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    text_base: TextBase = "trained"
    initial_capacity: int = 1024

    def __post_init__(self) -> None:
        require(self.chunk_frames >= 1, "chunk_frames", self.chunk_frames, "must be at least 1; 4 is a good start")
        require(
            0 <= self.target_fps <= 1000,
            "target_fps",
            self.target_fps,
            "must be between 0 (keep every frame) and 1000 frames per second",
        )
        require(self.max_pixels >= 0, "max_pixels", self.max_pixels, "must be 0 (the checkpoint's limit) or positive")
        require(
            self.text_base in ("trained", "transformers"),
            "text_base",
            self.text_base,
            "must be 'trained' or 'transformers'",
        )
        require(self.initial_capacity >= 1, "initial_capacity", self.initial_capacity, "must be positive")


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How the engine thread shares its time.

    Attributes:
        flush_after: seconds that a frame waits for its chunk to fill up before it is encoded without.
        queue_frames: frames that may wait for the engine thread.
        queue_policy: what happens to a frame when that queue is full: ``"drop_oldest"`` loses the oldest
            waiting frame (live), ``"block"`` makes the caller wait (offline).
        decode_share: part of the engine's time, while both are wanted, that goes to writing answers.
        max_questions: questions that may wait or be answered at once; one more is refused.
    """

    flush_after: float = 2.0
    queue_frames: int = 64
    queue_policy: QueuePolicy = "drop_oldest"
    decode_share: float = 0.5
    max_questions: int = 64

    def __post_init__(self) -> None:
        require(self.flush_after > 0, "flush_after", self.flush_after, "must be more than 0 seconds")
        require(self.queue_frames >= 1, "queue_frames", self.queue_frames, "must be at least 1")
        require(
            self.queue_policy in ("drop_oldest", "block"),
            "queue_policy",
            self.queue_policy,
            "must be 'drop_oldest' or 'block'",
        )
        require(0 < self.decode_share < 1, "decode_share", self.decode_share, "must lie between 0 and 1, both excluded")
        require(self.max_questions >= 1, "max_questions", self.max_questions, "must be at least 1")


@dataclass(frozen=True, slots=True)
class DialogueConfig:
    """How much is remembered.

    Attributes:
        dialogues: dialogues that are kept; the one that was used least recently goes first.
        turns: turns of one dialogue that are kept; the oldest go first.
        tokens: tokens of the turns of one dialogue together; the oldest turns go first.
    """

    dialogues: int = 64
    turns: int = 8
    tokens: int = 1024

    def __post_init__(self) -> None:
        require(self.dialogues >= 1, "dialogues", self.dialogues, "must be at least 1")
        require(self.turns >= 1, "turns", self.turns, "must be at least 1")
        require(1 <= self.tokens <= 1536, "tokens", self.tokens, "must lie between 1 and 1536: a question follows them")
