"""Standing questions without a model: what is accepted, when something counts as a change, who is told."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.watch import Watch, WatchState
from stream_vl_ros.engine.watches import MAX_WATCHES, Watches
from stream_vl_ros.errors import ConfigError, PromptError, RequestError, StreamVLError

SECOND = 1_000_000_000


def watch(**fields: object) -> Watch:
    return Watch(**({"name": "door", "question": "Is the door open?"} | fields))


def changes(state: WatchState, *looks: tuple[float, float]) -> list[bool | None]:
    """Per look (seconds, probability): what it changed to, or None."""
    return [state.firing if state.update(p, round(s * SECOND)) else None for s, p in looks]


def moment(seconds: float) -> Moment:
    return Moment(4, 0, round(seconds * SECOND), 100, 1000)


def scores_of(probability: float) -> tuple[float, float]:
    """Log-probabilities of yes and no, with some left for other answers."""
    return math.log(0.9 * probability), math.log(0.9 * (1 - probability))


def test_defaults():
    it = watch()
    assert (it.options, it.fires_on, it.threshold, it.hysteresis, it.min_interval) == (
        ("yes", "no"),
        "yes",
        0.5,
        0.1,
        0,
    )
    assert watch(options=["open", "shut"]).fires_on == "open"


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"name": ""}, ConfigError, "name='': must be a letter"),
        ({"name": "7up"}, ConfigError, "name='7up'"),
        ({"name": "front door"}, ConfigError, "e.g. 'door_open'"),
        ({"name": "door\n"}, ConfigError, "must be a letter"),
        ({"name": "x" * 65}, ConfigError, "64 at the most"),
        ({"question": "  "}, PromptError, "it is empty"),
        ({"question": "why? " * 300}, PromptError, "at most 1024"),
        ({"options": ("yes",)}, PromptError, "at least two"),
        ({"options": ("yes", "yes ")}, PromptError, "twice"),
        ({"fires_on": "maybe"}, ConfigError, "fires_on='maybe': is not one of the options 'yes', 'no'"),
        ({"threshold": 0}, ConfigError, "threshold=0: must lie above 0"),
        ({"threshold": 1.1}, ConfigError, "probability of 'yes'"),
        ({"threshold": math.nan}, ConfigError, "threshold=nan"),
        ({"hysteresis": 0.5}, ConfigError, "never stop firing"),
        ({"hysteresis": -0.1}, ConfigError, "hysteresis=-0.1"),
        ({"hysteresis": math.nan}, ConfigError, "hysteresis=nan"),
        ({"min_interval": -1}, ConfigError, "min_interval=-1"),
        ({"min_interval": math.inf}, ConfigError, "number of seconds"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(fields, error, said):
    with pytest.raises(error) as caught:
        watch(**fields)
    assert said in str(caught.value)


def test_probability_is_what_is_left_of_an_option_among_the_options():
    it = watch(options=("yes", "no", "unclear"), fires_on="no")
    logs = [math.log(p) for p in (0.1, 0.3, 0.2)]
    assert it.probabilities(logs) == pytest.approx((1 / 6, 0.5, 1 / 3))
    assert it.probability(logs) == pytest.approx(0.5)
    assert watch().probability([-2000.0, -1.0]) == 0.0


def test_it_fires_at_the_threshold_and_stops_below_the_hysteresis():
    state = WatchState(watch(threshold=0.6, hysteresis=0.2))
    looks = [(0, 0.59), (1, 0.6), (2, 0.5), (3, 0.41), (4, 0.39), (5, 0.59), (6, 0.9)]
    assert changes(state, *looks) == [None, True, None, None, False, None, True]


def test_without_hysteresis_it_follows_the_threshold():
    assert changes(WatchState(watch(hysteresis=0)), (0, 0.5), (1, 0.49), (2, 0.5)) == [True, False, True]


def test_changes_keep_their_distance_and_what_lasts_is_told_later():
    state = WatchState(watch(min_interval=3.0))
    looks = [(0, 0.9), (1, 0.0), (2, 0.9), (2.5, 0.0), (3, 0.0), (4, 1.0), (6, 1.0)]
    assert changes(state, *looks) == [True, None, None, None, False, None, True]


def test_the_first_change_does_not_wait():
    assert changes(WatchState(watch(min_interval=100.0)), (0, 0.1), (1, 0.9)) == [None, True]


def test_a_stamp_that_jumps_back_ends_the_interval():
    """A recording that begins anew: the last change lies in the future then."""
    state = WatchState(watch(min_interval=5.0))
    assert changes(state, (100, 0.9), (102, 0.1), (0, 0.1), (1, 0.9), (6, 0.9)) == [True, None, False, None, True]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), max_size=60),
    st.floats(0, 20),
    st.floats(0.05, 1),
    st.floats(0, 0.99),
)
def test_rules_hold_for_any_course_of_events(looks, interval, threshold, part):
    it = watch(threshold=threshold, hysteresis=part * threshold, min_interval=interval)
    state = WatchState(it)
    changed_at = seen_at = None
    for at, probability in looks:
        stamp = at * SECOND // 2
        before = state.firing
        changed = state.update(probability, stamp)
        assert changed == (state.firing != before)
        if seen_at is not None and stamp < seen_at:
            changed_at = None
        if changed:
            assert probability >= threshold if state.firing else probability < threshold - it.hysteresis
            assert changed_at is None or stamp - changed_at >= round(interval * SECOND)
            changed_at = stamp
        seen_at = stamp


def test_names_are_unique():
    watches = Watches([watch()])
    with pytest.raises(ConfigError, match="name='door': there is a watch of that name; remove it first"):
        watches.add(watch(question="Another?"))
    assert watches.remove("door")
    watches.add(watch(question="Another?"))
    assert [r.watch.question for r in watches.reports()] == ["Another?"]


def test_there_is_a_bound():
    watches = Watches([watch(name=f"w{i}") for i in range(MAX_WATCHES)])
    with pytest.raises(ConfigError, match="remove one first"):
        watches.add(watch())
    assert watches.clear() == MAX_WATCHES
    assert len(watches) == 0


def test_reports_follow_the_looks():
    watches = Watches([watch()])
    (one,) = watches.standing()
    (before,) = watches.reports()
    assert math.isnan(before.probability) and before.scores == () and not before.firing
    event = watches.succeeded(one, scores_of(0.8), moment(2), 0.01)
    assert event is not None
    assert (event.fired, event.option, event.previous_stamp_ns, event.seconds) == (True, "yes", 0, 0.01)
    assert event.probability == pytest.approx(0.8)
    assert watches.succeeded(one, scores_of(0.45), moment(4), 0.01) is None
    event = watches.succeeded(one, scores_of(0.1), moment(6), 0.01)
    assert event is not None
    assert (event.fired, event.option, event.previous_stamp_ns) == (False, "no", 4 * SECOND)
    (after,) = watches.reports()
    assert (after.firing, after.stamp_ns, after.events) == (False, 6 * SECOND, 2)
    watches.failed(one, "broken")
    (after,) = watches.reports()
    assert (after.error, after.stamp_ns) == ("broken", 6 * SECOND)


def test_nothing_is_told_of_a_watch_that_was_removed_meanwhile():
    watches = Watches([watch()])
    (one,) = watches.standing()
    watches.remove("door")
    assert watches.succeeded(one, scores_of(1 - 1e-9), moment(2), 0.01) is None


def test_scores_that_mean_nothing_are_refused():
    watches = Watches([watch()])
    (one,) = watches.standing()
    with pytest.raises(RequestError, match="no usable scores"):
        watches.succeeded(one, (math.nan, -1.0), moment(2), 0.01)
    assert not watches.reports()[0].firing


def test_many_threads_add_and_remove():
    watches, refused = Watches(), []

    def work(number: int) -> None:
        for i in range(100):
            try:
                watches.add(watch(name=f"w{i % 7}"))
            except StreamVLError as error:
                refused.append(error)
            watches.reports()
            watches.remove(f"w{(i + number) % 7}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watches.clear()
    assert len(watches) == 0 and len(refused) < 400
