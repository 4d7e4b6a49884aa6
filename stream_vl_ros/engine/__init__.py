"""The engine: a live video in a KV cache, and questions on forks of it. Needs torch and transformers, no ROS.

Importing this package is cheap; torch and transformers are imported with the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_vl_ros.engine.answer import Answer, Finish, Moment
    from stream_vl_ros.engine.batch import DecodeBatch
    from stream_vl_ros.engine.config import DialogueConfig, RunnerConfig, StreamConfig
    from stream_vl_ros.engine.fork import Fork
    from stream_vl_ros.engine.generation import Generation
    from stream_vl_ros.engine.loader import LoadedModel, load_model
    from stream_vl_ros.engine.question import Question, Turn
    from stream_vl_ros.engine.reconfigured import Change, Reconfigured
    from stream_vl_ros.engine.runner import EngineRunner
    from stream_vl_ros.engine.runner_state import RunnerStatus
    from stream_vl_ros.engine.saved.memory_file import SavedMemory, load_memory, save_memory
    from stream_vl_ros.engine.sharing import Sharing
    from stream_vl_ros.engine.stream import VideoStream
    from stream_vl_ros.engine.stream_records import ChunkReport, Offered, StreamSnapshot
    from stream_vl_ros.engine.time_jump import Jump, JumpCounters
    from stream_vl_ros.engine.video_file import VideoFile, open_video, watch_file
    from stream_vl_ros.engine.watch import Watch, WatchEvent
    from stream_vl_ros.engine.watches import Watches, WatchReport

_HOMES = {
    "Answer": "answer",
    "Change": "reconfigured",
    "ChunkReport": "stream_records",
    "DecodeBatch": "batch",
    "DialogueConfig": "config",
    "EngineRunner": "runner",
    "Finish": "answer",
    "Fork": "fork",
    "Generation": "generation",
    "Jump": "time_jump",
    "JumpCounters": "time_jump",
    "LoadedModel": "loader",
    "Moment": "answer",
    "Offered": "stream_records",
    "Question": "question",
    "Reconfigured": "reconfigured",
    "RunnerConfig": "config",
    "RunnerStatus": "runner_state",
    "SavedMemory": "saved.memory_file",
    "Sharing": "sharing",
    "StreamConfig": "config",
    "StreamSnapshot": "stream_records",
    "Turn": "question",
    "VideoFile": "video_file",
    "VideoStream": "stream",
    "Watch": "watch",
    "WatchEvent": "watch",
    "WatchReport": "watches",
    "Watches": "watches",
    "load_memory": "saved.memory_file",
    "load_model": "loader",
    "open_video": "video_file",
    "save_memory": "saved.memory_file",
    "watch_file": "video_file",
}

__all__ = [
    "Answer",
    "Change",
    "ChunkReport",
    "DecodeBatch",
    "DialogueConfig",
    "EngineRunner",
    "Finish",
    "Fork",
    "Generation",
    "Jump",
    "JumpCounters",
    "LoadedModel",
    "Moment",
    "Offered",
    "Question",
    "Reconfigured",
    "RunnerConfig",
    "RunnerStatus",
    "SavedMemory",
    "Sharing",
    "StreamConfig",
    "StreamSnapshot",
    "Turn",
    "VideoFile",
    "VideoStream",
    "Watch",
    "WatchEvent",
    "WatchReport",
    "Watches",
    "load_memory",
    "load_model",
    "open_video",
    "save_memory",
    "watch_file",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
