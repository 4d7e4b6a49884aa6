"""The rounds of a loop, without ROS."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_vl_ros.bag.play_options import PlayOptions
from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.bag.rounds import Span, rounds
from stream_vl_ros.errors import ConfigError

PERIOD = 50_000_000
MakeBag = Callable[..., Path]


def shifts(bag: BagReader, span: Span, count: int) -> list[int]:
    topics = bag.filled_image_topics()
    return [shift for _, shift in itertools.islice(rounds(bag, topics, span, loop=True), count)]


def test_once(make_bag: MakeBag) -> None:
    with BagReader(make_bag("mcap", 10)) as bag:
        found = list(rounds(bag, bag.filled_image_topics(), Span(bag.start), loop=False))
    assert len(found) == 10 and {shift for _, shift in found} == {0}


def test_rounds_follow_each_other_at_the_distance_of_images(make_bag: MakeBag) -> None:
    with BagReader(make_bag("mcap", 10)) as bag:
        assert shifts(bag, Span(bag.start), 30) == [0] * 10 + [10 * PERIOD] * 10 + [20 * PERIOD] * 10
        part = Span(bag.start + 2 * PERIOD, bag.start + 5 * PERIOD)
        assert shifts(bag, part, 7) == [0] * 3 + [3 * PERIOD] * 3 + [6 * PERIOD]


def test_a_single_image_comes_again_at_the_rate_of_its_topic(make_bag: MakeBag) -> None:
    with BagReader(make_bag("mcap", 10)) as bag:
        assert shifts(bag, Span(bag.start, bag.start + 1), 3) == [0, PERIOD, 2 * PERIOD]
    with BagReader(make_bag("mcap", 1, name="one")) as bag:
        assert shifts(bag, Span(bag.start), 3) == [0, 10**9, 2 * 10**9]


def test_of_several_topics_the_busiest_gives_the_distance(make_cameras: MakeBag) -> None:
    with BagReader(make_cameras()) as bag:
        # Its first message, 7 ms before the first image, is none.
        found = shifts(bag, Span(bag.start + 7_000_000), 61)
    assert found[:60] == [0] * 60 and found[60] == 40 * PERIOD


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="/a and /b would both be published on '/c'"):
        PlayOptions(to={"/a": "/c", "/b": "/c"})
    with pytest.raises(ConfigError, match="loop_stamps is 'other'"):
        PlayOptions(loop_stamps="other")  # type: ignore[arg-type]
