"""Hours of the toy world through an engine on its own thread, with everything that callers do meanwhile."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType

import numpy as np

from stream_vl_ros.bench import held
from stream_vl_ros.bench.accuracy_score import is_right
from stream_vl_ros.bench.painted import SCENE_FRAMES, scenes
from stream_vl_ros.bench.soak_accounts import accounts
from stream_vl_ros.bench.soak_callers import PATIENCE, Caller, Tally
from stream_vl_ros.bench.soak_camera import Camera
from stream_vl_ros.bench.soak_records import Sample, Soak
from stream_vl_ros.bench.soak_script import (
    FPS,
    MEMORY,
    OTHER,
    OTHER_RUNNER,
    PARTS,
    PASSING,
    PERIOD_NS,
    RUNNER,
    USUAL,
    Part,
    begins,
    part,
)
from stream_vl_ros.bench.soak_truth import STANDING, Standing, Truth, recent_questions
from stream_vl_ros.engine import (
    Answer,
    ChunkReport,
    DialogueConfig,
    EngineRunner,
    LoadedModel,
    Question,
    VideoStream,
    Watches,
)
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import RequestError
from stream_vl_ros.world.questions import Question as Asked
from stream_vl_ros.world.scene import Scene

CALLERS = 2
QUESTIONS = 4
"""About the last seconds, at each of three moments of a scene."""

DIALOGUES = DialogueConfig(dialogues=4, turns=4, tokens=256)


class TimedStream(VideoStream):
    """Notes the processor time of every chunk of the usual size. Other programs do not show in it."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model, USUAL)
        self.chunk_ms: list[float] = []

    def encode_chunk(self) -> ChunkReport | None:
        """As that of any stream."""
        begun = time.thread_time()
        report = super().encode_chunk()
        if report is not None and report.frames == USUAL.chunk_frames and self.config == USUAL:
            self.chunk_ms.append(1e3 * (time.thread_time() - begun))
        return report

    def taken(self) -> list[float]:
        """What was noted since the last time."""
        noted, self.chunk_ms = self.chunk_ms, []
        return noted


class Soaking:
    """A soak that is under way. One thread, the camera's, uses it; callers have threads of their own."""

    def __init__(self, model: LoadedModel, seed: int) -> None:
        self.tally = Tally()
        self.right = self.asked = self.recalled_alike = self.recalls = 0
        self.by_kind: dict[str, Counter[str]] = defaultdict(Counter)
        self.began = time.monotonic()
        self.truth = Truth()
        self.standing = Standing(self.truth)
        self.stream = TimedStream(model)
        watches = Watches(STANDING, on_event=self.standing.told)
        self.runner = EngineRunner(self.stream, RUNNER, DIALOGUES, watches)
        self.camera = Camera(self.runner, self.truth)
        self.callers = [Caller(self.runner, i) for i in range(CALLERS)]
        self._seed = seed
        self._last_ns = 0
        self._kept_answer = ""
        self._resident: list[float] = []

    def scene(self, number: int, scene: Scene, pictures: np.ndarray) -> None:
        """One scene, with what happens around it and questions at three moments."""
        now = part(number)
        self._resident.clear()
        self._before(number, now)
        first = begins(number, self._last_ns)
        rng = random.Random(f"soak/{self._seed}/{number}")
        moments = {*rng.sample(range(16, SCENE_FRAMES - 8), 2), SCENE_FRAMES - 1}
        waiting: list[tuple[Asked, Future[Answer]]] = []
        for frame in range(SCENE_FRAMES):
            self._last_ns = first + frame * PERIOD_NS
            self.camera.push(scene, pictures[frame], frame, self._last_ns, now)
            self.standing.look(self.runner.watches())
            self._resident.append(held.resident_mib())
            if frame in moments:
                waiting += [(q, self.ask(q.text)) for q in recent_questions(rng, scene, frame, QUESTIONS)]
        for q, future in waiting:
            right = is_right(q, self.answer(future).text)
            self.right += right
            self.asked += 1
            self.by_kind[q.kind]["right" if right else "wrong"] += 1
        if now.remember:
            answer = self.answer(self.ask("What is visible now?", remember=True))
            if not answer.remembered:
                self.tally.wrong.append(f"{answer} is not remembered")

    def sample(self, number: int, before: tuple[int, int, int, int]) -> Sample:
        """How things stand behind a scene; `before` are the totals in front of it."""
        taken, pinned, tokens = self.runner.call(
            lambda stream: (self.stream.taken(), stream.cache.pinned_bytes, stream.cache.length)
        ).result(PATIENCE)
        right, asked, standing_right, standing = (b - a for a, b in zip(before, self.totals(), strict=True))
        return Sample(
            hours=(number + 1) * SCENE_FRAMES / FPS / 3600,
            chunk_ms=statistics.median(taken) if taken else None,
            chunks=len(taken),
            resident_mib=statistics.median(self._resident),
            peak_mib=max(self._resident),
            own_mib=held.own_mib(),
            pinned_mib=pinned / MIB,
            tokens=tokens,
            forks=held.living_forks(),
            threads=held.threads(),
            files=held.open_files(),
            right=right,
            asked=asked,
            standing_right=standing_right,
            standing=standing,
            answers=self.runner.status().questions.answered,
        )

    def totals(self) -> tuple[int, int, int, int]:
        """Right and asked, standing right and judged."""
        return self.right, self.asked, self.standing.right, self.standing.judged

    def ask(self, text: str, *, remember: bool = False) -> Future[Answer]:
        """Ask about this moment, however many others ask: no frame comes before it was taken."""
        while True:
            try:
                future = self.runner.ask(Question(text), timeout=PATIENCE, remember=remember)
            except RequestError:
                if not self.runner.alive:
                    raise
                time.sleep(0.01)
            else:
                self.tally.asked += 1
                return future

    def answer(self, future: Future[Answer]) -> Answer:
        """An answer that must come."""
        answer = future.result(PATIENCE)
        self.tally.ends["answered"] += answer.complete
        return answer

    def _before(self, number: int, now: Part) -> None:
        """What happens in front of a scene."""
        runner, was = self.runner, PARTS[number % len(PARTS) - 1]
        if now.jump:
            self.camera.handed.gaps += now.jump == "gap"
            self.camera.handed.back += now.jump == "back"
        if now.memory == "keep":
            runner.keep(MEMORY).result(PATIENCE)
            self._kept_answer = self.answer(self.ask("Describe the scene.")).text
        elif now.memory == "recall":
            runner.recall(MEMORY).result(PATIENCE)
            self.recalls += 1
            self.recalled_alike += self.answer(self.ask("Describe the scene.")).text == self._kept_answer
        elif now.memory == "discard":
            runner.discard(MEMORY).result(PATIENCE)
        if now.other != was.other:
            settings = (OTHER, OTHER_RUNNER) if now.other else (USUAL, RUNNER)
            runner.reconfigure(*settings).result(PATIENCE)
        if now.passing and not was.passing:
            runner.add_watch(PASSING)
        elif was.passing and not now.passing and number:
            runner.remove_watch(PASSING.name)


def run(model: LoadedModel, *, scenes_shown: int, seed: int, tick: Callable[[Sample, Soak], None]) -> Soak:
    """Soak for so many scenes, or until Ctrl-C: behind the scene that is shown then. Called on the main thread."""
    out, soaking = Soak(), Soaking(model, seed)
    painted = scenes(seed, FPS, scenes_shown)
    with _quiet(), _ctrl_c() as interrupted, contextlib.closing(painted) as shown, soaking.runner:
        try:
            for number, (scene, pictures) in enumerate(shown):
                before = soaking.totals()
                soaking.scene(number, scene, pictures)
                if number == 0:
                    for caller in soaking.callers:
                        caller.start()
                out.samples.append(soaking.sample(number, before))
                tick(out.samples[-1], out)
                if interrupted():
                    out.interrupted = True
                    break
            accounts(soaking, out)
        finally:
            for caller in soaking.callers:
                caller.stop()
    gc.collect()
    forks = held.living_forks()
    out.accounts.append((forks == 0, f"forks that are left when all is over: {forks}"))
    return out


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C came. It waits for the end of a scene, where all books can be closed; a second one does not."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What is spoilt on purpose is no news; and log records would keep what failed alive."""
    log = logging.getLogger("stream_vl_ros.engine")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
