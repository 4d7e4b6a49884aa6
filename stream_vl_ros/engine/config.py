"""Settings of the engine: frozen, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from stream_vl_ros.brief import shown
from stream_vl_ros.errors import ConfigError

TextBase = Literal["trained", "transformers"]
QueuePolicy = Literal["drop_oldest", "block"]
Eviction = Literal["none", "window", "importance"]
OnTimeJump = Literal["reset", "continue", "mark"]

# All frames of a chunk are in memory, and in one pass of the model, at once.
MAX_CHUNK_FRAMES = 1024

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."


def require(condition: bool, name: str, value: object, reason: str) -> None:
    """Raise `ConfigError` naming the setting, its value and the reason unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{name}={shown(value)}: {reason}")


def require_whole(config: object, *names: str) -> None:
    """Raise `ConfigError` for a setting that is no whole number."""
    for name in names:
        value = getattr(config, name)
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        require(whole, name, value, "must be a whole number")


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How one video stream is encoded.

    Attributes:
        chunk_frames: frames that are encoded together, 1 to 1024; only whole temporal patches (2 frames) are
            committed, an odd frame waits for its partner. The value changes speed, not answers.
        target_fps: frames per second kept, by stamp. 0 keeps every frame at its own time.
        max_pixels: pixels of an encoded frame at the most, 0 for the checkpoint's own limit.
        system_prompt: text of the system turn.
        text_base: where text after a video is placed. ``"trained"``: at the largest position + 1, as the
            model was trained. ``"transformers"``: where the installed transformers places it.
        initial_capacity: tokens that the KV cache has room for before it grows for the first time.
        eviction: what is forgotten when a budget is used up. ``"none"``: nothing, further frames are refused.
            ``"window"``: the oldest. ``"importance"``: in every layer and head, what recent frames repeat and what
            carries least (`memory.rules` names the sources).
        budget_tokens: tokens that the KV cache holds at the most; 0 for no such budget.
        budget_mib: MiB that the KV cache takes at the most; 0 for no such budget.
        budget_seconds: seconds of video that the budget is as large as; 0 for no such budget. Of several budgets the
            tightest counts. Room is made for several chunks at a time, so a little less than the budget may be held.
        sink_frames: frames at the beginning of the video that are never forgotten.
        recent_share: with ``"importance"``, the part of the budget for the most recent frames, kept in full.
        novelty_share: with ``"importance"``, the part of the survivors chosen because recent frames do not repeat
            them; the others are chosen by the length of their values.
        max_position: temporal position beyond which positions are moved back; 0 for what the checkpoint was trained
            with. Only with an eviction rule.
        still_threshold: mean difference in grey levels (0 to 255) below which a piece of picture (2 frames of 28 x 28
            pixels) counts as unchanged and is not read again; 0 reads everything.
        still_refresh: seconds after which even an unchanged piece is read again.
        on_time_jump: what a jump of the stamps does, back or ahead. ``"reset"``: all video is forgotten, and the frame
            begins a new one. ``"continue"``: the video goes on, after a jump back in the next slot of the cadence as if
            no time had passed, after a gap at its true distance, as far as the model has positions for it.
            ``"mark"``: the video ends, and another one begins in the same turn.
        max_gap: seconds after a frame beyond which the next one counts as a jump; 0 for no such limit but the positions
            that the model has.
        jump_back: seconds before a frame beyond which a later one counts as a jump; one that is less early is out of
            order, and dropped.
    """

    chunk_frames: int = 4
    target_fps: float = 2.0
    max_pixels: int = 0
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    text_base: TextBase = "trained"
    initial_capacity: int = 1024
    eviction: Eviction = "none"
    budget_tokens: int = 0
    budget_mib: float = 0.0
    budget_seconds: float = 0.0
    sink_frames: int = 0
    recent_share: float = 0.25
    novelty_share: float = 0.5
    max_position: int = 0
    still_threshold: float = 0.0
    still_refresh: float = 10.0
    on_time_jump: OnTimeJump = "mark"
    max_gap: float = 60.0
    jump_back: float = 1.0

    def __post_init__(self) -> None:
        require_whole(
            self, "chunk_frames", "max_pixels", "initial_capacity", "budget_tokens", "sink_frames", "max_position"
        )
        require(
            1 <= self.chunk_frames <= MAX_CHUNK_FRAMES,
            "chunk_frames",
            self.chunk_frames,
            f"must be 1 to {MAX_CHUNK_FRAMES}; 4 is a good start",
        )
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
        self._check_memory()
        require(
            self.on_time_jump in ("reset", "continue", "mark"),
            "on_time_jump",
            self.on_time_jump,
            "must be 'reset', 'continue' or 'mark'",
        )
        for name in ("max_gap", "jump_back"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), name, value, "must be 0 or a number of seconds")

    def _check_memory(self) -> None:
        require(
            self.eviction in ("none", "window", "importance"),
            "eviction",
            self.eviction,
            "must be 'none', 'window' or 'importance'",
        )
        for name in ("budget_tokens", "budget_mib", "budget_seconds", "sink_frames", "max_position", "still_threshold"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), name, value, "must be 0 (off) or positive")
        require(
            self.eviction == "none" or self.has_budget,
            "eviction",
            self.eviction,
            "needs a budget: set budget_tokens, budget_mib or budget_seconds",
        )
        require(
            not self.budget_seconds or self.target_fps > 0,
            "budget_seconds",
            self.budget_seconds,
            "needs a target_fps, or nobody knows how much a second of video takes; use budget_mib instead",
        )
        require(0 <= self.recent_share <= 1, "recent_share", self.recent_share, "must lie between 0 and 1")
        require(0 <= self.novelty_share <= 1, "novelty_share", self.novelty_share, "must lie between 0 and 1")
        require(self.still_refresh > 0, "still_refresh", self.still_refresh, "must be more than 0 seconds")

    @property
    def has_budget(self) -> bool:
        """Whether the memory is bounded."""
        return bool(self.budget_tokens or self.budget_mib or self.budget_seconds)


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
