"""The engine behind the node: a loaded model and its running stream.

Importing this module imports torch and transformers, which takes seconds: the node does it off its executor.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import torch
import transformers
from sensor_msgs.msg import CompressedImage, Image

from stream_vl_ros.action import AskStream
from stream_vl_ros.engine.answer import Answer
from stream_vl_ros.engine.loader import LoadedModel, load_model
from stream_vl_ros.engine.question import Question
from stream_vl_ros.engine.runner import EngineRunner
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.engine.warmup import warm_up
from stream_vl_ros.engine.watches import Watches
from stream_vl_ros.errors import ConfigError, FrameError
from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.ros.messages import status_message, to_ns
from stream_vl_ros.ros.parameters import Value, image_options, runner_config, stream_config
from stream_vl_ros.ros.pictures import picture_of
from stream_vl_ros.srv import Ask


class Session:
    """A model and one stream on the engine's thread. Safe to use from any thread."""

    def __init__(self, model: LoadedModel, values: Mapping[str, Value], watches: Watches | None = None) -> None:
        self.model = model
        self._max_new_tokens = int(values["max_new_tokens"])
        self._timeout = float(values["ask_timeout"])
        self._image_options = image_options(values)
        self._runner = EngineRunner(VideoStream(model, stream_config(values)), runner_config(values), watches=watches)
        self._runner.start()

    @staticmethod
    def open(values: Mapping[str, Value], watches: Watches | None = None) -> Session:
        """Load the model and start. Raises `ModelLoadError`."""
        # Half of the cores: a small model is faster on few, and the camera and the middleware need the others.
        torch.set_num_threads(int(values["cpu_threads"]) or max(1, len(os.sched_getaffinity(0)) // 2))
        if not sys.stderr.isatty():
            transformers.utils.logging.disable_progress_bar()
        model = load_model(str(values["model"]), device=str(values["device"]), dtype=str(values["dtype"]))
        warm_up(model, stream_config(values))
        return Session(model, values, watches)

    def push(self, message: Image | CompressedImage) -> None:
        """Hand over an image; it is decoded on the engine's thread, if it is kept."""
        stamp = message.header.stamp
        if stamp.sec < 0 or stamp.nanosec >= NANOSECONDS:
            self._runner.reject(
                FrameError(
                    "bad_stamp",
                    f"header stamp of {stamp.sec} s and {stamp.nanosec} ns is no time: seconds must not be negative, "
                    "nanoseconds below 1e9; check the camera driver",
                )
            )
            return
        self._runner.push(functools.partial(picture_of, message, self._image_options), to_ns(stamp))

    def ask(
        self, request: Ask.Request | AskStream.Goal, on_text: Callable[[str], None] | None = None
    ) -> Future[Answer]:
        """Queue a question; `on_text` is called on the engine's thread with each piece of its answer.

        Raises `StreamVLError` for one that cannot be asked.
        """
        if not 0 <= request.timeout < float("inf"):
            raise ConfigError(
                f"timeout={request.timeout}: must be a number of seconds, or 0 for the node's ask_timeout"
            )
        question = Question(
            request.question,
            tuple(request.choices),
            request.max_new_tokens or self._max_new_tokens,
            regex=request.regex,
            json_schema=request.json_schema,
        )
        return self._runner.ask(
            question,
            timeout=request.timeout or self._timeout,
            remember=request.remember,
            dialogue=request.dialogue,
            on_text=on_text,
        )

    def reset(self) -> Future[None]:
        """Forget all video."""
        return self._runner.reset()

    def keep(self, name: str) -> Future[dict[str, int]]:
        """Keep the present memory under a name."""
        return self._runner.keep(name)

    def recall(self, name: str) -> Future[dict[str, int]]:
        """Go back to a memory."""
        return self._runner.recall(name)

    def discard(self, name: str) -> Future[dict[str, int]]:
        """Let go of a memory."""
        return self._runner.discard(name)

    def signature(self) -> Future[str]:
        """Checksum of the stream."""
        return self._runner.call(lambda stream: stream.signature())

    def status(self) -> StreamStatus:
        """The session's part of the status message."""
        message = status_message(self._runner.status())
        message.model = self.model.name
        message.device = str(self.model.adapter.device)
        message.dtype = str(self.model.adapter.dtype).removeprefix("torch.")
        return message

    def close(self, timeout: float) -> None:
        """Stop; questions that are not answered yet fail."""
        self._runner.close(timeout)
