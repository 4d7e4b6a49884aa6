"""The standing questions of one stream: kept by any thread, looked at by the engine's."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.watch import Watch, WatchEvent, WatchState, check_new
from stream_vl_ros.errors import RequestError

MAX_WATCHES = 256


@dataclass(frozen=True, slots=True)
class WatchReport:
    """A watch and how it stands.

    Attributes:
        watch: the watch.
        firing: whether it fires.
        scores: log-probability of each option at the last look; empty before the first one.
        probability: of the option that it fires on; NaN before the first look.
        stamp_ns: newest frame of that look; 0 before the first one.
        events: how often it changed.
        error: why the last look failed; empty if it did not.
    """

    watch: Watch
    firing: bool
    scores: tuple[float, ...]
    probability: float
    stamp_ns: int
    events: int
    error: str


@dataclass(slots=True, eq=False)
class Standing:
    """A watch in the collection. The engine's thread alone looks at `looked`, and changes anything of it."""

    watch: Watch
    state: WatchState = field(init=False)
    looked: bool = False  # at least once, or tried to
    scores: tuple[float, ...] = ()
    stamp_ns: int = 0
    events: int = 0
    error: str = ""

    def __post_init__(self) -> None:
        self.state = WatchState(self.watch)

    def report(self) -> WatchReport:
        probability = self.watch.probability(self.scores) if self.scores else math.nan
        return WatchReport(
            self.watch, self.state.firing, self.scores, probability, self.stamp_ns, self.events, self.error
        )


class Watches:
    """Standing questions by name. Every method may be called from any thread, before and while an engine runs.

    >>> watches = Watches([Watch("door", "Is the door open?")])
    >>> watches.add(Watch("person", "Is there a person?", threshold=0.8))
    >>> [report.watch.name for report in watches.reports()]
    ['door', 'person']
    >>> watches.remove("door"), watches.remove("door")
    (True, False)
    """

    def __init__(self, watches: Iterable[Watch] = (), on_event: Callable[[WatchEvent], None] | None = None) -> None:
        """The collection of one stream.

        Args:
            watches: what is in it at first.
            on_event: called on the engine's thread when a watch begins to fire or stops; it must return at once.
        """
        self._lock = threading.Lock()
        self._standing: dict[str, Standing] = {}
        self._on_event = on_event
        self._on_new: Callable[[], None] = lambda: None
        for watch in watches:
            self.add(watch)

    def __len__(self) -> int:
        return len(self._standing)

    def add(self, watch: Watch) -> None:
        """Ask this after every chunk from now on, and at once if there is video already.

        Raises `ConfigError` if there is one of that name, or if there are `MAX_WATCHES`.
        """
        with self._lock:
            check_new(watch.name, list(self._standing), MAX_WATCHES)
            self._standing[watch.name] = Standing(watch)
        self._on_new()

    def check(self, watch: Watch) -> None:
        """Raise what `add` would raise now."""
        with self._lock:
            check_new(watch.name, list(self._standing), MAX_WATCHES)

    def remove(self, name: str) -> bool:
        """Ask this no longer. Returns whether there was one of that name; nothing is told of it afterwards."""
        with self._lock:
            return self._standing.pop(name, None) is not None

    def clear(self) -> int:
        """Remove all. Returns how many there were."""
        with self._lock:
            count = len(self._standing)
            self._standing.clear()
        return count

    def reports(self) -> list[WatchReport]:
        """All of them, in the order in which they came."""
        with self._lock:
            return [s.report() for s in self._standing.values()]

    # --- for the engine -------------------------------------------------------------------------------------

    def notify(self, on_new: Callable[[], None]) -> None:
        """Let `on_new` be called, on any thread, after one was added."""
        self._on_new = on_new

    def standing(self) -> list[Standing]:
        """All of them."""
        with self._lock:
            return list(self._standing.values())

    def succeeded(
        self, standing: Standing, scores: Sequence[float], moment: Moment, seconds: float
    ) -> WatchEvent | None:
        """Take the scores of a look. Returns what has to be told, if anything.

        Raises `RequestError` for scores that mean nothing.
        """
        watch = standing.watch
        if not all(math.isfinite(s) for s in scores):
            raise RequestError(f"the model gave no usable scores: {list(scores)}; a float16 overflow looks like this")
        with self._lock:
            probabilities = watch.probabilities(scores)
            probability = probabilities[watch.options.index(watch.fires_on)]
            previous, standing.stamp_ns = standing.stamp_ns, moment.last_stamp_ns
            standing.looked, standing.scores, standing.error = True, tuple(scores), ""
            changed = standing.state.update(probability, moment.last_stamp_ns)
            if not changed or self._standing.get(watch.name) is not standing:
                return None
            standing.events += 1
            option = watch.options[max(range(len(scores)), key=lambda i: scores[i])]
            return WatchEvent(
                watch, standing.state.firing, option, probability, tuple(scores), moment, previous, seconds
            )

    def tell(self, event: WatchEvent) -> None:
        """Hand an event to who wanted to know."""
        if self._on_event is not None:
            self._on_event(event)

    def failed(self, standing: Standing, error: str) -> None:
        """A look at this one failed; it stays as it was and is looked at again after the next chunk."""
        with self._lock:
            standing.looked, standing.error = True, error
