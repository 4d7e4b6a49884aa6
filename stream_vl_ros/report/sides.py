"""One question about some frames, by either side, with everything that is measured about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stream_vl_ros.bench.gpu_runs import TokenClock, sync
from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine import LoadedModel, Question, StreamConfig, VideoStream
from stream_vl_ros.engine.out_of_memory import give_back, is_out_of_memory
from stream_vl_ros.engine.units import MIB, NANOSECONDS
from stream_vl_ros.errors import MemoryFullError, NativeOOMError
from stream_vl_ros.report.gauge import Gauge, asked_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question with a test of its answer, where there is one."""

    text: str
    right: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames, uint8 (frames, height, width, 3), their seconds, and what to ask at their end."""

    frames: np.ndarray
    stamps: tuple[float, ...]
    questions: tuple[Asked, ...]
    source: str

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def fps(self) -> float:
        return (len(self) - 1) / (self.stamps[-1] - self.stamps[0]) if len(self) > 1 else 1.0

    def every(self, stride: int) -> Clip:
        """Each `stride`-th frame, an even number of them, so that none waits for the other half of its pair.

        In memory of their own: of a view native inference would have to make a copy, and pay for it under its cap.
        """
        if stride == 1:
            return self
        count = -(-len(self) // stride)
        end = max(2, count - count % 2) * stride
        return Clip(self.frames[:end:stride].copy(), self.stamps[:end:stride], self.questions, self.source)

    def first(self, frames: int) -> Clip:
        """Its beginning."""
        return Clip(self.frames[:frames], self.stamps[:frames], self.questions, self.source)

    def about(self, stride: int = 1) -> str:
        """In words."""
        return f"{self.source}, {len(self)} frames" + (f" (stride {stride})" if stride > 1 else "")


@dataclass(frozen=True, slots=True)
class Run:
    """One answer. Times in milliseconds, memory in bytes.

    Attributes:
        prepare: until native's inputs are made; 0 for a stream.
        ingest: until all frames are in the context, through vision tower and language model: all chunks of a stream;
            natively inputs made and the first forward pass, in which the question is as well.
        chunks: of it, each chunk; empty for native.
        first: from the question to its first token.
        token: each further token.
        before, peak, after: memory; native's after with its tensors freed, a stream's with the video in its cache.
        taken: the most beyond `before`, as a cap counts it; see `Gauge.grown`.
        context_tokens: all that the first token of the answer is told from, the question included.
        cache_tokens, cache_bytes: what the stream's cache holds when the question comes; 0 for native.
        right: whether the answer is; None if nobody knows.
    """

    text: str
    ids: tuple[int, ...]
    prepare: float
    ingest: float
    chunks: tuple[float, ...]
    first: float
    token: tuple[float, ...]
    before: int
    peak: int
    after: int
    taken: int
    context_tokens: int
    cache_tokens: int
    cache_bytes: int
    right: bool | None

    @property
    def total(self) -> float:
        """From the question to the end of the answer; native's has the preparation of all frames in it."""
        return self.first + sum(self.token)

    @property
    def tokens_per_second(self) -> float | None:
        return 1e3 * len(self.token) / sum(self.token) if self.token else None


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """The same weights, twice: as transformers runs them, and as the engine does."""

    native: NativeModel
    loaded: LoadedModel
    gauge: Gauge
    tokens: int

    @property
    def device(self) -> torch.device:
        return self.gauge.device

    @property
    def max_pixels(self) -> int:
        """Of a picture, as native inference encodes it: a stream gets the same pictures, also beyond its own limit."""
        return int(self.loaded.processor.video_processor.size["longest_edge"])

    def config(self, **settings: object) -> StreamConfig:
        """Of a stream that takes every frame at its own time and in the size that native inference does."""
        return StreamConfig(**({"target_fps": 0, "max_pixels": self.max_pixels} | settings))  # type: ignore[arg-type]

    def ask_native(self, clip: Clip, question: Asked, cap: float = 0.0) -> Run:
        """All frames and the question in one go, as if nothing had been seen before.

        Args:
            cap: MiB that may be allocated beyond what is held, 0 for no cap.

        Raises:
            NativeOOMError: with what was allocated and asked.
        """
        before = self.gauge.reset()
        with self.gauge.cap(cap):
            try:
                return self._native(clip, question, before, cap)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failure = self._out_of_memory(clip, error, before, cap)
        # Outside of the handler: the exception held the frames of the failed attempt, and their tensors, alive.
        give_back()
        raise failure

    def _native(self, clip: Clip, question: Asked, before: int, cap: float) -> Run:
        began = time.perf_counter()
        prompt = self.native.prompt([user_turn(question.text)])
        inputs = self.native.inputs(prompt, [clip.frames], clip.fps)
        sync(self.device)
        prepared = 1e3 * (time.perf_counter() - began)
        # Worked out token by token to be independent of the engine: no part of what native inference takes.
        positions = self.native.trained_positions(inputs, [_pairs(clip.stamps)])
        sync(self.device)
        read: list[float] = []
        handle = self.native.model.model.register_forward_hook(lambda *_: self._note(read))
        clock, started = TokenClock(), time.perf_counter()
        try:
            answer = self.native.generate(inputs, self.tokens, position_ids=positions, streamer=clock)
        finally:
            handle.remove()
        peak, taken = self.gauge.peak(), self.gauge.grown(cap)
        prompt_tokens = int(inputs["input_ids"].shape[1])
        del inputs
        # Native inference sees the frames when the question comes: making its inputs is part of the answer's time.
        return Run(
            answer.text,
            answer.token_ids,
            prepared,
            prepared + 1e3 * (read[0] - started),
            (),
            prepared + clock.milliseconds[0],
            tuple(clock.milliseconds[1:]),
            before,
            peak,
            self.gauge.reset(),
            taken,
            prompt_tokens,
            0,
            0,
            question.right(answer.text) if question.right else None,
        )

    def _note(self, read: list[float]) -> None:
        """The time at which all frames were read; later passes are of one token each, and are not held up."""
        if not read:
            sync(self.device)
            read.append(time.perf_counter())

    def _out_of_memory(self, clip: Clip, error: Exception, before: int, cap: float) -> NativeOOMError:
        allocated = before + self.gauge.grown(cap)
        words = f"native inference {_numbers(clip, error, allocated, before, cap)}"
        return NativeOOMError(words, allocated=allocated, asked=asked_bytes(str(error)), before=before)

    def watch(self, clip: Clip, config: StreamConfig, *, flush: bool = True) -> tuple[VideoStream, list[float]]:
        """A stream that has seen a clip, and the milliseconds of each chunk, device included.

        Without `flush`, frames at the end that make no whole chunk go on waiting.
        """
        stream = VideoStream(self.loaded, config)
        chunks: list[float] = []
        sync(self.device)
        began = time.perf_counter()
        for frame, seconds in zip(clip.frames, clip.stamps, strict=True):
            stream.offer(frame, round(seconds * NANOSECONDS))
            if stream.encode_chunk() is not None:
                sync(self.device)
                now = time.perf_counter()
                chunks.append(1e3 * (now - began))
                began = now
        if flush and stream.flush() is not None:
            sync(self.device)
            chunks.append(1e3 * (time.perf_counter() - began))
        return stream, chunks

    def ask_stream(self, clip: Clip, question: Asked, config: StreamConfig | None = None, cap: float = 0.0) -> Run:
        """Frame by frame into a stream, and the question at its end.

        Args:
            cap: MiB that may be allocated beyond what is held, 0 for no cap.

        Raises:
            MemoryFullError: with the numbers, if that is too little.
        """
        before = self.gauge.reset()
        with self.gauge.cap(cap):
            try:
                stream, chunks = self.watch(clip, config or self.config())
                return self.answer(stream, question, before, chunks, cap)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                words = f"streaming {_numbers(clip, error, before + self.gauge.grown(cap), before, cap)}"
        give_back()
        raise MemoryFullError(words)

    def answer(
        self, stream: VideoStream, question: Asked, before: int, chunks: Sequence[float], cap: float = 0.0
    ) -> Run:
        """The answer of a stream that is there already; `cap` is the one that holds meanwhile."""
        sync(self.device)
        began = time.perf_counter()
        generation = stream.start(Question(question.text, max_new_tokens=self.tokens))
        generation.prefill()
        times = [1e3 * (time.perf_counter() - began)]
        context = generation.fork.cache.length
        while not generation.done:
            at = time.perf_counter()
            generation.step()
            times.append(1e3 * (time.perf_counter() - at))
        answer = generation.answer()
        peak, taken, moment = self.gauge.peak(), self.gauge.grown(cap), answer.moment
        return Run(
            answer.text,
            answer.token_ids,
            0.0,
            sum(chunks),
            tuple(chunks),
            times[0],
            tuple(times[1:]),
            before,
            peak,
            self.gauge.held(),
            taken,
            context,
            moment.cache_tokens,
            moment.cache_bytes,
            question.right(answer.text) if question.right else None,
        )


def _numbers(clip: Clip, error: Exception, allocated: int, before: int, cap: float) -> str:
    said, asked = str(error).strip().splitlines(), asked_bytes(str(error))
    limit = f", with a cap of {cap:g} MiB beyond that" if cap else ""
    more = f"{asked / MIB:.1f} MiB more were asked for" if asked is not None else "the allocator does not say more"
    return (
        f"over {clip.about()} ran out of memory: {allocated / MIB:.1f} MiB were allocated at the most "
        f"({before / MIB:.1f} before it began{limit}), {more}; it said: {said[0] if said else type(error).__name__} "
        "Fewer frames need less."
    )


def _pairs(stamps: Sequence[float]) -> list[float]:
    """Seconds of each pair of frames since the first."""
    return [t - stamps[0] for t in stamps[::2]]
