"""What is true in a soak: questions about the last seconds, and standing ones, by the toy world."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from stream_vl_ros.bench.eviction_age import PRESENT, seconds_back
from stream_vl_ros.bench.painted import SCENE_FRAMES
from stream_vl_ros.bench.soak_script import PASSING, ROUND
from stream_vl_ros.engine import Watch, WatchEvent, WatchReport
from stream_vl_ros.world.questions import Question, ask
from stream_vl_ros.world.scene import Scene
from stream_vl_ros.world.things import COLOURS, SHAPES

RECENT_SECONDS = 12.0
EVENTS = ("last", "gone", "still_there", "left_view", "color_change")
"""Kinds about what happened; asked only if that was in the last `RECENT_SECONDS` of the scene itself."""

# A memory is gone back to scenes later, and is about scenes from before.
_KEPT_FRAMES = 2 * ROUND * SCENE_FRAMES


def _coloured(colour: str) -> Callable[[Scene, int], bool]:
    return lambda scene, frame: any(COLOURS[t.colour_at(frame)] == colour for t in scene.visible(frame))


def _shaped(shape: str) -> Callable[[Scene, int], bool]:
    return lambda scene, frame: any(SHAPES[t.shape] == shape for t in scene.visible(frame))


STANDING = (
    Watch("red", "Is there a red object?"),
    Watch("blue", "Is there a blue object?"),
    Watch("circle", "Is there a circle?"),
    Watch("square", "Is there a square?"),
)
_PREDICATES = {
    "red": _coloured("red"),
    "blue": _coloured("blue"),
    "circle": _shaped("circle"),
    "square": _shaped("square"),
    PASSING.name: _shaped("star"),
}


def recent_questions(rng: random.Random, scene: Scene, now: int, count: int) -> list[Question]:
    """So many questions about the frame `now` and the last seconds before it, each of another kind."""
    found: list[Question] = []
    for kind in rng.sample([*PRESENT, *EVENTS], len(PRESENT) + len(EVENTS)):
        q = ask(rng, scene, now, kind)
        if q is None or len(found) == count:
            continue
        age = seconds_back(q, scene, now)
        # What is there from the first frame on appeared with the scene, all at once.
        if age is not None and age <= min(RECENT_SECONDS, scene.seconds(now) - 1):
            found.append(q)
    return found


class Truth:
    """What the frames of the last scenes show, by their stamps. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, tuple[Scene, int]] = OrderedDict()

    def show(self, stamp_ns: int, scene: Scene, frame: int) -> None:
        """A frame is about to be pushed."""
        with self._lock:
            self._frames[stamp_ns] = (scene, frame)
            while len(self._frames) > _KEPT_FRAMES:
                self._frames.popitem(last=False)

    def holds(self, watch: str, stamp_ns: int) -> bool | None:
        """Whether a standing question is to be answered with yes; None where its pair of frames shows both."""
        with self._lock:
            scene, frame = self._frames[stamp_ns]
        before, now = (_PREDICATES[watch](scene, f) for f in (frame - 1, frame))
        return now if before == now and frame else None


class Standing:
    """Books of the standing questions: every event, and how each stands whenever somebody looks."""

    def __init__(self, truth: Truth) -> None:
        self.events: dict[str, int] = {w.name: 0 for w in (*STANDING, PASSING)}
        self.right = self.judged = 0
        self._truth = truth
        self._lock = threading.Lock()
        self._looked: dict[str, int] = {}

    def told(self, event: WatchEvent) -> None:
        """A standing question began to fire, or stopped."""
        with self._lock:
            self.events[event.watch.name] += not event.removed
        if not event.removed:
            self._judge(event.watch.name, event.fired, event.moment.last_stamp_ns)

    def look(self, reports: Sequence[WatchReport]) -> None:
        """Compare how they stand with what is true, once for each look of the engine's."""
        for report in reports:
            name = report.watch.name
            if report.stamp_ns and self._looked.get(name) != report.stamp_ns:
                self._looked[name] = report.stamp_ns
                self._judge(name, report.firing, report.stamp_ns)

    def _judge(self, name: str, fires: bool, stamp_ns: int) -> None:
        truth = self._truth.holds(name, stamp_ns)
        with self._lock:
            if truth is not None:
                self.judged += 1
                self.right += fires == truth
