"""The standing questions of one stream: kept by any thread, looked at by the engine's."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

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
    moment: Moment | None = None  # of the last look
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


def _asked(watch: Watch) -> tuple[str, tuple[str, ...], str]:
    return watch.question, watch.options, watch.fires_on


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
            on_event: called when a watch begins to fire or stops, on the engine's thread, or on that of whoever removes
                one that fires; it must return at once.
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
        """Ask this no longer; if it fires it stops with that. Returns whether there was one of that name."""
        with self._lock:
            standing = self._standing.pop(name, None)
        if standing is None:
            return False
        self._ended(standing)
        return True

    def clear(self) -> int:
        """Remove all. Returns how many there were."""
        with self._lock:
            all_of_them = list(self._standing.values())
            self._standing.clear()
        for standing in all_of_them:
            self._ended(standing)
        return len(all_of_them)

    def replace(self, watch: Watch) -> None:
        """Ask this instead of the one of its name, at once if there is video already.

        One that asks the same and fires goes on firing, until its new limits say otherwise; of another question that
        fires it is told that it stopped. Raises `ConfigError` as `add` does if there is none of that name yet.
        """
        with self._lock:
            old = self._standing.get(watch.name)
            if old is None:
                check_new(watch.name, list(self._standing), MAX_WATCHES)
            new = Standing(watch)
            goes_on = old is not None and _asked(old.watch) == _asked(watch)
            if old is not None and goes_on:
                new.scores, new.moment, new.stamp_ns, new.events = old.scores, old.moment, old.stamp_ns, old.events
                new.state = replace(old.state, watch=watch)
            self._standing[watch.name] = new
        if old is not None and not goes_on:
            self._ended(old)
        self._on_new()

    def _ended(self, standing: Standing) -> None:
        """Tell of one that is asked no longer, if it fires."""
        if not standing.state.firing or standing.moment is None:
            return
        watch, scores = standing.watch, standing.scores
        option = watch.options[max(range(len(scores)), key=lambda i: scores[i])]
        probability = watch.probability(scores)
        stamp = standing.moment.last_stamp_ns
        self.tell(WatchEvent(watch, False, option, probability, scores, standing.moment, stamp, 0.0, removed=True))

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
            standing.looked, standing.scores, standing.moment, standing.error = True, tuple(scores), moment, ""
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
