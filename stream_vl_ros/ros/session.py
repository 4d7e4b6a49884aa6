"""The engine behind the node: a loaded model, and a running stream for each camera.

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
from stream_vl_ros.engine.answering import fulfil
from stream_vl_ros.engine.loader import LoadedModel, load_model
from stream_vl_ros.engine.out_of_memory import give_back, memory_use
from stream_vl_ros.engine.process_memory import trim
from stream_vl_ros.engine.question import Question
from stream_vl_ros.engine.reconfigured import Reconfigured
from stream_vl_ros.engine.runner import EngineRunner
from stream_vl_ros.engine.saved.memory_file import SavedMemory
from stream_vl_ros.engine.saved.names import named
from stream_vl_ros.engine.sharing import Share, Sharing
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.engine.warmup import warm_up
from stream_vl_ros.engine.watches import Watches
from stream_vl_ros.errors import ConfigError, FrameError, StreamVLError
from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.ros.memory_folder import memory_folder
from stream_vl_ros.ros.messages import status_message, to_ns
from stream_vl_ros.ros.parameters import PARAMETERS, Value, image_options, runner_config, stream_config
from stream_vl_ros.ros.pictures import picture_of
from stream_vl_ros.srv import Ask

Values = Mapping[str, Value]

# Names of dialogues are kept as long as these are.
MAX_DIALOGUE_NAME = 256


class Engine:
    """A model, and a session on it for each stream; they share its time fairly.

    Attributes:
        model: the model.
        sessions: by name of the stream.
    """

    def __init__(self, model: LoadedModel, streams: Mapping[str, Values], watches: Mapping[str, Watches]) -> None:
        """Start a session for each stream.

        Args:
            model: what they share.
            streams: all parameters of each stream, checked.
            watches: the standing questions of each stream.
        """
        self.model = model
        sharing = Sharing()
        self.sessions = {
            name: Session(model, values, watches[name], sharing.member(), name=name) for name, values in streams.items()
        }

    @staticmethod
    def open(
        node: Values, streams: Mapping[str, Values], watches: Mapping[str, Watches], tell: Callable[[str], None]
    ) -> Engine:
        """Load the model and start.

        Args:
            node: the parameters of the node, checked.
            streams, watches: see the constructor.
            tell: called with what is being done.

        Raises:
            ModelLoadError: with the reason and a hint.
        """
        # Half of the cores: a small model is faster on few, and the camera and the middleware need the others.
        torch.set_num_threads(int(node["cpu_threads"]) or max(1, len(os.sched_getaffinity(0)) // 2))
        if not sys.stderr.isatty():
            transformers.utils.logging.disable_progress_bar()
        tell("reading the checkpoint")
        model = load_model(str(node["model"]), device=str(node["device"]), dtype=str(node["dtype"]))
        tell("a first chunk and a first question, so that the camera's do not wait for them")
        for config in {stream_config(values) for values in streams.values()}:
            warm_up(model, config)
        return Engine(model, streams, watches)

    def close(self, timeout: float) -> None:
        """Stop all sessions, waiting `timeout` seconds for them together; questions that are not answered yet fail."""
        for session in self.sessions.values():
            session.stop()
        for session in self.sessions.values():
            session.close(timeout / len(self.sessions))

    @staticmethod
    def release() -> None:
        """Give back the memory of engines that nobody refers to any more."""
        give_back()
        trim()


class Session:
    """One stream on an engine thread of its own. Safe to use from any thread."""

    def __init__(
        self,
        model: LoadedModel,
        values: Values,
        watches: Watches | None = None,
        share: Share | None = None,
        name: str = "",
    ) -> None:
        self.model = model
        self._name = name
        self._use(values)
        stream = VideoStream(model, stream_config(values))
        self._runner = EngineRunner(stream, runner_config(values), watches=watches, share=share)
        self._runner.start()

    def _use(self, values: Values) -> None:
        self._max_new_tokens = int(values["max_new_tokens"])
        self._timeout = float(values["ask_timeout"])
        self._image_options = image_options(values)
        self._memories = memory_folder(values, self._name)

    def reconfigure(self, values: Values) -> Future[Reconfigured]:
        """Work with these parameters from now on."""
        self._use(values)
        return self._runner.reconfigure(stream_config(values), runner_config(values))

    def check(self, values: Values) -> None:
        """Raise `StreamVLError` for parameters that could not work now."""
        self._runner.check(stream_config(values))

    def push(self, message: Image | CompressedImage) -> None:
        """Hand over an image; it is decoded on the engine's thread, if it is kept."""
        stamp = message.header.stamp
        if stamp.sec < 0 or stamp.nanosec >= NANOSECONDS:
            self.reject(
                FrameError(
                    "bad_stamp",
                    f"header stamp of {stamp.sec} s and {stamp.nanosec} ns is no time: seconds must not be negative, "
                    "nanoseconds below 1e9; check the camera driver",
                )
            )
            return
        self._runner.push(functools.partial(picture_of, message, self._image_options), to_ns(stamp))

    def reject(self, error: FrameError) -> None:
        """Count an image that cannot be handed over."""
        self._runner.reject(error)

    def ask(
        self, request: Ask.Request | AskStream.Goal, on_text: Callable[[str], None] | None = None
    ) -> Future[Answer]:
        """Queue a question; `on_text` is called on the engine's thread with each piece of its answer.

        Raises `StreamVLError` for one that cannot be asked, which is counted as well.
        """
        try:
            question = self._question(request)
        except StreamVLError as error:
            self._runner.refuse(error)
            raise
        return self._runner.ask(
            question,
            timeout=request.timeout or self._timeout,
            remember=request.remember,
            dialogue=request.dialogue,
            on_text=on_text,
        )

    def _question(self, request: Ask.Request | AskStream.Goal) -> Question:
        if not 0 <= request.timeout < float("inf"):
            raise ConfigError(
                f"timeout={request.timeout}: must be a number of seconds, or 0 for the node's ask_timeout"
            )
        _check_limit("timeout", request.timeout, "ask_timeout")
        _check_limit("max_new_tokens", request.max_new_tokens, "max_new_tokens")
        if len(request.dialogue) > MAX_DIALOGUE_NAME:
            raise ConfigError(
                f"dialogue of {len(request.dialogue)} characters: its name has {MAX_DIALOGUE_NAME} at the most; "
                "shorten it"
            )
        return Question(
            request.question,
            tuple(request.choices),
            request.max_new_tokens or self._max_new_tokens,
            regex=request.regex,
            json_schema=request.json_schema,
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

    def save(self, name: str) -> Future[dict[str, int]]:
        """Write the present memory to disk. Raises `SavedMemoryError` for what is no name."""
        return _tokens(name, self._runner.save(named(self._memories, name)))

    def load(self, name: str) -> Future[dict[str, int]]:
        """Go back to a memory on disk. Raises `SavedMemoryError` for what is no name."""
        return _tokens(name, self._runner.load(named(self._memories, name)))

    def signature(self) -> Future[str]:
        """Checksum of the stream."""
        return self._runner.call(lambda stream: stream.signature())

    def status(self) -> StreamStatus:
        """The session's part of the status message."""
        message = status_message(self._runner.status())
        message.model = self.model.name
        message.device = str(self.model.adapter.device)
        message.dtype = str(self.model.adapter.dtype).removeprefix("torch.")
        message.device_memory_used, message.device_memory_total = memory_use(self.model.adapter.device)
        return message

    @property
    def alive(self) -> bool:
        """Whether its engine thread runs."""
        return self._runner.alive

    def stop(self) -> None:
        """Take nothing more, without waiting."""
        self._runner.close(0.0)

    def close(self, timeout: float) -> None:
        """Stop; questions that are not answered yet fail."""
        self._runner.close(timeout)


def _tokens(name: str, future: Future[SavedMemory]) -> Future[dict[str, int]]:
    """The tokens of a memory by its name, once it is saved or loaded."""
    tokens: Future[dict[str, int]] = Future()

    def done(finished: Future[SavedMemory]) -> None:
        fulfil(tokens, lambda: {name: finished.result().tokens})

    future.add_done_callback(done)
    return tokens


def _check_limit(name: str, value: float, parameter: str) -> None:
    """Raise `ConfigError` for more than the node's parameter could be set to: such an answer would never end."""
    high = next(p.high for p in PARAMETERS if p.name == parameter)
    if high is not None and value > high:
        raise ConfigError(f"{name}={value}: at most {high:g} can be asked for, or 0 for the node's {parameter}")
