"""The engine: a live video in a KV cache, and questions on forks of it. Needs torch and transformers, no ROS."""

from stream_vl_ros.engine.answer import Answer, Finish, Moment
from stream_vl_ros.engine.config import RunnerConfig, StreamConfig
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.generation import Generation, Question
from stream_vl_ros.engine.loader import LoadedModel, load_model
from stream_vl_ros.engine.stream import ChunkReport, StreamSnapshot, VideoStream

__all__ = [
    "Answer",
    "ChunkReport",
    "Finish",
    "Fork",
    "Generation",
    "LoadedModel",
    "Moment",
    "Question",
    "RunnerConfig",
    "StreamConfig",
    "StreamSnapshot",
    "VideoStream",
    "load_model",
]
