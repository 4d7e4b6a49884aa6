"""Which frames are kept, and where on the time axis."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import FrameError

EPOCH = 1_700_000_000_123_456_789
MS = 1_000_000


def placed(target: float, stamps: list[int]) -> list[int | None]:
    sampler = FrameSampler(target)
    return [sampler.place(s) for s in stamps]


def camera(fps: Fraction | float, seconds: float, jitter_ms: float = 0.0, seed: int = 0) -> list[int]:
    """Stamps of a camera; only the first frame is exactly on time."""
    noise = random.Random(seed)
    fps = Fraction(fps).limit_denominator(1001)
    late = [0, *(noise.uniform(-jitter_ms, jitter_ms) for _ in range(int(seconds * fps) - 1))]
    return [EPOCH + int(i * NANOSECONDS / fps + x * MS) for i, x in enumerate(late)]


def slots(target: float, count: int) -> list[int]:
    return [int(i * NANOSECONDS / Fraction(target).limit_denominator(1001)) for i in range(count)]


@pytest.mark.parametrize("fps", [0.37, 0.5, 1, 2, 7, 15, 24, 29.97, 30])
def test_a_camera_at_the_target_rate_keeps_every_frame(fps):
    stamps = camera(fps, 100)
    assert placed(fps, stamps) == slots(fps, len(stamps))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fps", [2, 10, 15])
def test_jitter_does_not_move_or_skip_frames(fps, seed):
    stamps = camera(fps, 60, jitter_ms=80 / fps, seed=seed)  # less than a tenth of a period
    assert placed(fps, stamps) == slots(fps, len(stamps))


def test_a_frame_may_come_a_tenth_of_a_period_early():
    assert placed(10, [0, 100 * MS, 191 * MS]) == [0, 100 * MS, 200 * MS]
    assert placed(10, [0, 100 * MS, 189 * MS]) == [0, 100 * MS, None]


@pytest.fixture(scope="module")
def hour() -> list[int]:
    return camera(Fraction(30000, 1001), 3600)


@pytest.mark.parametrize("target", [2, 4, 10])
def test_an_hour_of_a_2997_camera(target, hour):
    stamps = hour
    times = placed(target, stamps)
    kept = [(s - EPOCH, t) for s, t in zip(stamps, times, strict=True) if t is not None]
    assert [t for _, t in kept] == slots(target, 3600 * target)  # no slot is lost, none is doubled
    period, early = NANOSECONDS * 1001 / 30000, NANOSECONDS / (10 * target)
    # A frame never lies further from its slot than the camera's own period: no drift over the hour.
    assert all(-early - 1 <= real - slot <= period for real, slot in kept)


def test_a_camera_slower_than_the_target_keeps_all_frames_near_their_time():
    stamps = camera(7, 60)
    times = placed(10, stamps)
    assert None not in times
    assert all(-MS * 10 <= (s - EPOCH) - t < 100 * MS for s, t in zip(stamps, times, strict=True))
    assert all(t % (100 * MS) == 0 for t in times)


def test_a_faster_camera_keeps_the_first_frame_of_each_slot():
    stamps = [0, 100, 400, 499, 520, 700, 900, 1000, 1400]
    assert placed(2, [s * MS for s in stamps]) == [0, None, None, 500 * MS, None, None, None, 1000 * MS, None]


def test_of_a_faster_camera_the_nearest_frame_is_kept():
    # At 30 fps the frame at 466.7 ms lies within a tenth of the slot that begins at 500 ms, but the next one hits it.
    kept = [s for s, t in zip(camera(30, 10), placed(2, camera(30, 10)), strict=True) if t is not None]
    assert kept == camera(30, 10)[::15]


def test_a_gap_stays_a_gap():
    stamps = [0, 500, 60_000, 60_500, 3_600_250, 3_600_500]
    assert placed(2, [EPOCH + s * MS for s in stamps]) == [
        0, 500 * MS, 60_000 * MS, 60_500 * MS, 3_600_000 * MS, 3_600_500 * MS,
    ]  # fmt: skip


@pytest.mark.parametrize("target", [0, 2, 30])
@pytest.mark.parametrize("bad", [0, -1, -5 * NANOSECONDS])
def test_a_stamp_that_is_not_later_changes_nothing(target, bad):
    sampler = FrameSampler(target)
    sampler.place(EPOCH)
    sampler.place(EPOCH + 600 * MS)
    before = replace(sampler)
    with pytest.raises(FrameError, match=r"(?s)1700000000\.723457.*jump_back") as raised:
        sampler.place(EPOCH + 600 * MS + bad)
    assert raised.value.reason == "stamp_backwards"
    assert sampler == before
    assert sampler.place(EPOCH + 1000 * MS) == 1000 * MS


def test_a_skipped_frame_counts_for_the_order():
    sampler = FrameSampler(1)
    assert sampler.place(0) == 0
    assert sampler.place(500 * MS) is None
    with pytest.raises(FrameError):
        sampler.place(400 * MS)


def test_target_zero_keeps_everything_at_its_own_time():
    stamps = [EPOCH, EPOCH + 1, EPOCH + 17 * MS, EPOCH + 10**13]
    assert placed(0, stamps) == [s - EPOCH for s in stamps]


@pytest.mark.parametrize("target", [2, 10, 30])
def test_seconds_as_floats_of_todays_date(target):
    # A quarter of a microsecond is lost in a float64 of this size.
    stamps = [round((EPOCH / 1e9 + i / target) * NANOSECONDS) for i in range(1000)]
    assert placed(target, stamps) == slots(target, 1000)


def test_the_smallest_rate_that_a_stream_accepts_is_not_no_rate_at_all():
    # One frame in eleven and a half days.
    assert placed(1e-6, [0, 1_000_000 * NANOSECONDS, 2_000_000 * NANOSECONDS])[1:] != [None, None]


@given(
    target=st.sampled_from([0.37, 1, 2, 3, 7.5, 29.97, 30, 1000]),
    steps=st.lists(st.integers(1, 3 * NANOSECONDS), max_size=40),
    origin=st.integers(0, 2**62),
)
def test_kept_frames_are_in_order_and_near_their_time(target, steps, origin):
    stamps = [origin + sum(steps[:i]) for i in range(len(steps) + 1)]
    times = placed(target, stamps)
    period = NANOSECONDS / target
    last = -1
    for stamp, time in zip(stamps, times, strict=True):
        if time is None:
            continue
        assert time > last
        assert -0.1001 * period - 1 <= (stamp - origin) - time <= period + 1
        last = time


# --- jumps --------------------------------------------------------------------------------------------------


def after(*stamps: int, fps: float = 2, **settings) -> FrameSampler:
    sampler = FrameSampler(fps, **settings)
    for stamp in stamps:
        sampler.place(stamp)
    return sampler


@pytest.mark.parametrize(
    ("stamp", "kind"),
    [
        (9_000, None),  # out of order by just what is allowed
        (8_999, "back"),
        (0, "back"),
        (10_000, None),  # twice
        (10_001, None),
        (70_000, None),
        (70_001, "gap"),
    ],
)
def test_a_jump_is_more_than_a_frame_out_of_order_and_more_than_a_pause(stamp, kind):
    sampler = after(0, 10_000 * MS, max_gap_ns=60_000 * MS)
    jump = sampler.jump(stamp * MS)
    assert (jump and jump.kind) == kind
    if jump:
        assert (jump.from_ns, jump.to_ns, jump.seconds) == (10_000 * MS, stamp * MS, abs(stamp - 10_000) / 1000)


def test_the_first_frame_of_all_is_no_jump():
    assert FrameSampler(2, max_gap_ns=1, jump_back_ns=0).jump(-(10**18)) is None


def test_a_recording_that_is_shorter_than_jump_back_is_seen_to_begin_anew():
    sampler = after(5 * MS, 300 * MS, 500 * MS)
    assert sampler.jump(400 * MS) is None
    assert sampler.jump(6 * MS) is None
    for anew in (5 * MS, 0):
        jump = sampler.jump(anew)
        assert jump is not None
        assert jump.kind == "back"
    # One frame again and again is not a recording that begins anew.
    assert after(5 * MS).jump(5 * MS) is None


def test_a_skipped_frame_counts_for_the_jump():
    sampler = after(0, 100 * MS, 200 * MS, fps=1, max_gap_ns=60_000 * MS)
    assert sampler.jump(60_150 * MS) is None
    assert sampler.jump(60_201 * MS) is not None


def test_looking_for_a_jump_changes_nothing():
    sampler = after(0, 10_000 * MS)
    before = replace(sampler)
    assert sampler.jump(0)
    assert sampler == before


@pytest.mark.parametrize("fps", [0, 2, 30])
def test_a_span_begins_at_its_first_frame(fps):
    sampler = after(EPOCH, EPOCH + 1000 * MS, fps=fps)
    fresh = FrameSampler(fps)
    assert sampler.begin(77 * MS) == fresh.place(77 * MS) == 0
    assert sampler.span == 1
    for stamp in (80, 577, 1_000, 1_077, 3_000):
        assert sampler.place(stamp * MS) == fresh.place(stamp * MS)
    assert sampler.jump(0)


@pytest.mark.parametrize("fps", [0.37, 2, 7.5, 29.97, 30])
def test_going_on_without_time_takes_the_next_slot_however_often(fps):
    period = NANOSECONDS / Fraction(fps).limit_denominator(1001)
    sampler = FrameSampler(fps)
    times = [sampler.place(0)]
    for _ in range(50):  # a recording of five frames that loops
        times += [sampler.place(int(i * period)) for i in range(1, 5)]
        times.append(sampler.resume(0))
    assert times == slots(fps, len(times))
    assert sampler.span == 0


def test_going_on_without_time_and_without_a_cadence_repeats_the_last_step():
    sampler = after(0, 700 * MS, fps=0, max_gap_ns=60_000 * MS)
    assert sampler.resume(100 * MS) == 1_400 * MS
    assert sampler.place(150 * MS) == 1_450 * MS
    assert sampler.place(100_000 * MS) == 101_300 * MS  # a gap is no step
    assert sampler.resume(0) == 101_350 * MS
    assert after(0, fps=0).resume(-1) == 500 * MS  # one frame says nothing


def test_after_going_back_to_a_memory_any_earlier_stamp_is_a_jump():
    sampler = after(0, 10_000 * MS)
    sampler.restored = True
    assert sampler.jump(9_999 * MS)
    assert sampler.jump(10_001 * MS) is None
    sampler.place(10_001 * MS)
    assert sampler.jump(10_000 * MS) is None


# --- another cadence ----------------------------------------------------------------------------------------


@given(
    old=st.sampled_from([0, 0.37, 2, 7.5, 29.97]),
    new=st.sampled_from([0, 0.5, 3, 7.5, 30]),
    steps=st.lists(st.integers(1, NANOSECONDS), min_size=2, max_size=40),
    cut=st.integers(1, 20),
)
def test_another_cadence_is_one_that_begins_at_the_newest_kept_frame(old, new, steps, cut):
    """On the same axis: what comes later lies where a sampler would put it that began with that frame's slot."""
    stamps = [EPOCH + sum(steps[:i]) for i in range(len(steps))]
    cut = min(cut, len(stamps))
    sampler = FrameSampler(old)
    time = max(t for t in map(sampler.place, stamps[:cut]) if t is not None)
    before = replace(sampler)
    changed = sampler.paced(new)
    assert sampler == before
    fresh = FrameSampler(new)
    fresh.place(EPOCH + time)
    fresh._last_ns = stamps[cut - 1]
    if old == new:
        fresh = sampler
        time = 0
    for stamp in stamps[cut:]:
        expected, got = fresh.place(stamp), changed.place(stamp)
        assert got == (None if expected is None else time + expected)


def test_another_cadence_before_the_first_frame():
    sampler = FrameSampler(2).paced(10)
    assert [sampler.place(EPOCH + i * 100 * MS) for i in range(3)] == [0, 100 * MS, 200 * MS]


def test_time_stays_true_through_many_changes():
    """Ten minutes of a 30 Hz camera: wherever the cadence changes, a frame lies at its time, to a slot."""
    sampler = FrameSampler(2)
    rates, last = [2, 5, 0, 1, 7.5, 30, 0.5], -1
    for i, stamp in enumerate(camera(30, 600)):
        if i % 300 == 299:
            sampler = sampler.paced(rates[i // 300 % len(rates)])
        time = sampler.place(stamp)
        if time is not None:
            period = NANOSECONDS / sampler.target_fps if sampler.target_fps else 2
            assert time > last
            assert -period / 10 - 2000 <= stamp - EPOCH - time <= period + NANOSECONDS / 30
            last = time
