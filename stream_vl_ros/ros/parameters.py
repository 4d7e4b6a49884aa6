"""Every parameter of the node, in one place: the YAML, the launch file, the README and the node all follow this.

Plain data: importing it needs no ROS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stream_vl_ros.brief import shown
from stream_vl_ros.engine.config import DEFAULT_SYSTEM_PROMPT, RunnerConfig, StreamConfig
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.image_options import ImageOptions

Value = str | int | float | bool
Changes = Literal["live", "unconfigured", "never"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the node.

    Attributes:
        default: its value unless set; also gives the type.
        description: one sentence with the unit.
        low, high: allowed range of a number, both included; None for no bound.
        allowed: allowed values of a string; empty for any.
        changes: when it may be changed: at any moment with effect at once, while the node is not configured, or never.
        shared: whether it is the same for all streams; the others can be set for a stream of its own.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()
    changes: Changes = "unconfigured"
    shared: bool = False

    def check(self, value: Value) -> Value:
        """`value` in the parameter's type, if it is allowed. Raises `ConfigError` with the reason otherwise.

        A whole number is taken for any number: nobody should have to write `target_fps:=2.0`.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"parameter {self.name}={shown(value)}: must be {_KINDS[kind]}; {self.description}")
        if self.allowed and value not in self.allowed:
            raise ConfigError(f"parameter {self.name}={shown(value)}: must be one of {', '.join(self.allowed)}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise ConfigError(f"parameter {self.name}={value}: must be a number; {self.description}")
            if self.low is not None and value < self.low:
                raise ConfigError(f"parameter {self.name}={value}: must be at least {self.low:g}; {self.description}")
            if self.high is not None and value > self.high:
                raise ConfigError(f"parameter {self.name}={value}: must be at most {self.high:g}; {self.description}")
        return value


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

_STREAM, _RUNNER = StreamConfig(), RunnerConfig()

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "autostart",
        True,
        "Configure and activate at once; with false that is left to a lifecycle manager, or to `ros2 lifecycle set`.",
        changes="never",
        shared=True,
    ),
    Parameter(
        "model",
        "embedded",
        "Checkpoint: 'embedded' (comes with the package), 'random' (answers mean nothing), a folder, or a hub id.",
        shared=True,
    ),
    Parameter(
        "device",
        "auto",
        "Where the model runs: 'auto' (CUDA if there is one), 'cpu', 'cuda', 'cuda:1', ...",
        shared=True,
    ),
    Parameter(
        "dtype",
        "auto",
        "Precision: 'auto' is bfloat16 on CUDA and float32 on the CPU.",
        allowed=("auto", "float32", "bfloat16", "float16"),
        shared=True,
    ),
    Parameter("cpu_threads", 0, "Threads that PyTorch uses on the CPU; 0 is half of the cores.", 0, 1024, shared=True),
    Parameter("image_topic", "/camera/image_raw", "Topic of images to watch."),
    Parameter(
        "image_transport",
        "auto",
        "Kind of message: 'raw' is Image, 'compressed' is CompressedImage, 'auto' is what the publishers send.",
        allowed=("auto", "raw", "compressed"),
    ),
    Parameter(
        "depth_max_m",
        10.0,
        "Metres at which a depth image (16UC1, 32FC1) is darkest; what is farther looks the same.",
        0.01,
        10000.0,
        changes="live",
    ),
    Parameter(
        "qos_reliability",
        "best_effort",
        "QoS of the image subscription: 'best_effort' takes any publisher, 'reliable' asks for lost images if it can.",
        allowed=("best_effort", "reliable"),
    ),
    Parameter("qos_depth", 10, "Images that the middleware keeps for the node.", 1, 10000),
    Parameter(
        "image_timeout",
        5.0,
        "Seconds without an image after which the node says what it sees of the topic; 0 never does.",
        0.0,
        3600.0,
        changes="live",
    ),
    Parameter(
        "target_fps",
        _STREAM.target_fps,
        "Frames per second to keep, by header stamp; 0 keeps every frame.",
        0.0,
        1000.0,
        changes="live",
    ),
    Parameter("chunk_frames", _STREAM.chunk_frames, "Frames that are encoded together.", 1, 256, changes="live"),
    Parameter(
        "flush_after",
        _RUNNER.flush_after,
        "Seconds that a frame waits for its chunk to fill up before it is encoded without.",
        0.01,
        3600.0,
        changes="live",
    ),
    Parameter(
        "max_pixels",
        _STREAM.max_pixels,
        "Pixels of an encoded frame at the most; 0 is the checkpoint's limit.",
        0,
        10**8,
    ),
    Parameter(
        "system_prompt",
        DEFAULT_SYSTEM_PROMPT,
        "Text of the system turn in front of the video; a change begins the memory anew.",
        changes="live",
    ),
    Parameter(
        "text_base",
        _STREAM.text_base,
        "Position of text after video: 'trained' as the models were, 'transformers' as the installed version does.",
        allowed=("trained", "transformers"),
    ),
    Parameter(
        "eviction",
        _STREAM.eviction,
        "What is forgotten when a budget is used up: nothing (frames are refused), the oldest, or the least important.",
        allowed=("none", "window", "importance"),
        changes="live",
    ),
    Parameter(
        "budget_tokens",
        _STREAM.budget_tokens,
        "Tokens that the memory holds at the most; 0 is no limit.",
        0,
        10**9,
        changes="live",
    ),
    Parameter(
        "budget_mib",
        _STREAM.budget_mib,
        "MiB that the KV cache takes at the most; 0 is no limit.",
        0.0,
        10.0**7,
        changes="live",
    ),
    Parameter(
        "budget_seconds",
        _STREAM.budget_seconds,
        "Seconds of video that the memory is as large as; 0 is no limit. The tightest budget counts.",
        0.0,
        10.0**7,
        changes="live",
    ),
    Parameter(
        "sink_frames",
        _STREAM.sink_frames,
        "Frames at the beginning of the video that are never forgotten.",
        0,
        10**6,
        changes="live",
    ),
    Parameter(
        "recent_share",
        _STREAM.recent_share,
        "With 'importance': part of the budget for the most recent frames, kept in full.",
        0.0,
        1.0,
        changes="live",
    ),
    Parameter(
        "novelty_share",
        _STREAM.novelty_share,
        "With 'importance': part of what is kept of older frames because recent ones do not repeat it.",
        0.0,
        1.0,
        changes="live",
    ),
    Parameter(
        "max_position",
        _STREAM.max_position,
        "Temporal position beyond which positions are moved back, with eviction; 0 is the checkpoint's trained range.",
        0,
        10**9,
        changes="live",
    ),
    Parameter(
        "still_threshold",
        _STREAM.still_threshold,
        "Mean change in grey levels below which a piece of picture is not read again; 0 reads everything.",
        0.0,
        255.0,
        changes="live",
    ),
    Parameter(
        "still_refresh",
        _STREAM.still_refresh,
        "Seconds after which an unchanged piece is read again.",
        0.01,
        86400.0,
        changes="live",
    ),
    Parameter(
        "on_time_jump",
        _STREAM.on_time_jump,
        "What a jump of the header stamps does: all video is forgotten, it goes on, or another video begins behind it.",
        allowed=("reset", "continue", "mark"),
        changes="live",
    ),
    Parameter(
        "max_gap",
        _STREAM.max_gap,
        "Seconds between two header stamps beyond which time has jumped ahead; 0 is what the model has positions for.",
        0.0,
        10.0**7,
        changes="live",
    ),
    Parameter(
        "jump_back",
        _STREAM.jump_back,
        "Seconds by which a header stamp is too early to be merely out of order: time has jumped back.",
        0.0,
        10.0**7,
        changes="live",
    ),
    Parameter(
        "queue_frames",
        _RUNNER.queue_frames,
        "Frames that may wait for the engine; the oldest is dropped.",
        1,
        10**6,
        changes="live",
    ),
    Parameter(
        "decode_share",
        _RUNNER.decode_share,
        "Part of the engine's time that goes to writing answers while frames wait.",
        0.01,
        0.99,
        changes="live",
        shared=True,
    ),
    Parameter(
        "max_questions",
        _RUNNER.max_questions,
        "Questions waiting or being answered; one more is refused.",
        1,
        10000,
        changes="live",
    ),
    Parameter(
        "max_new_tokens",
        128,
        "Longest free answer, in tokens, unless the request says otherwise.",
        1,
        100000,
        changes="live",
        shared=True,
    ),
    Parameter(
        "ask_timeout",
        60.0,
        "Seconds after which an answer is cut off, unless the request says otherwise.",
        0.01,
        86400.0,
        changes="live",
        shared=True,
    ),
    Parameter(
        "memory_folder",
        "",
        "Folder of saved memories, and the only one that ~/save_memory and ~/load_memory use; empty is "
        "stream_vl_memories in $ROS_HOME, or in ~/.ros.",
        changes="live",
        shared=True,
    ),
    Parameter(
        "publish_signature",
        False,
        "Fill cache_signature in ~/status: a checksum over the whole KV cache every second, for tests.",
        changes="live",
        shared=True,
    ),
)

_NAMES = {p.name for p in PARAMETERS}

Values = Mapping[str, Value]


def checked(values: Values) -> dict[str, Value]:
    """All parameters with their values, each checked, and together. Raises `ConfigError` for what cannot work."""
    checked_values = {p.name: p.check(values.get(p.name, p.default)) for p in PARAMETERS}
    stream_config(checked_values)
    return checked_values


def stream_config(values: Values) -> StreamConfig:
    """The stream's part of the parameters."""
    return StreamConfig(**_some(values, *(f.name for f in dataclasses.fields(StreamConfig) if f.name in _NAMES)))


def runner_config(values: Values) -> RunnerConfig:
    """The engine thread's part of the parameters."""
    return RunnerConfig(**_some(values, "flush_after", "queue_frames", "decode_share", "max_questions"))


def image_options(values: Values) -> ImageOptions:
    """The decoders' part of the parameters."""
    return ImageOptions(depth_max_m=float(values["depth_max_m"]))


def _some(values: Values, *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


def markdown() -> str:
    """The table of all parameters for the README."""
    lines = ["| parameter | default | allowed | changes | meaning |", "|---|---|---|---|---|"]
    for p in PARAMETERS:
        if p.allowed:
            allowed = ", ".join(p.allowed)
        else:
            allowed = "" if p.low is None or p.high is None else f"{p.low:g} to {p.high:g}"
        default = str(p.default).lower() if isinstance(p.default, bool) else p.default
        changes = p.changes if p.shared else f"{p.changes}, per stream"
        lines.append(f"| `{p.name}` | `{default}` | {allowed} | {changes} | {p.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
