"""The eviction bench, for real on a few clips, and the ages that it goes by."""

from __future__ import annotations

import json

import pytest

from stream_vl_ros.bench import eviction
from stream_vl_ros.bench.eviction_age import PAST, PRESENT, seconds_back
from stream_vl_ros.world.heldout import heldout
from stream_vl_ros.world.questions import Question
from stream_vl_ros.world.scene import Scene, Track

# A red circle at 0 to 4 s, a blue star from 6 s on, which turns green at 10 s; the last frame is at 15.5 s.
SCENE = Scene(
    32,
    2.0,
    112,
    112,
    [
        Track(0, 0, 0.15, 0, 9, xs=[0.5] * 9, ys=[0.5] * 9),
        Track(2, 3, 0.15, 12, 32, xs=[0.5] * 20, ys=[0.5] * 20, new_colour=1, change_at=20),
    ],
)


@pytest.mark.parametrize(
    ("question", "age"),
    [
        (Question("visible", "What is visible?", "a green star"), 0.0),
        (Question("first", "Which came first?", "a red circle"), 15.5),
        (Question("last", "Which came last?", "a blue star"), 9.5),
        (Question("before", "What was there before the star?", "a red circle"), 15.5),
        (Question("when", "When did the circle appear?", "at second 0"), 15.5),
        (Question("gone", "What left last?", "a red circle"), 11.5),
        (Question("ever", "Was there anything red?", "yes"), 11.5),
        (Question("still_there", "Is the green star still there?", "yes"), 0.0),
        (Question("color_change", "How did the star change?", "from blue to green", subject=1), 6.0),
        (Question("ever", "Was there a white cross?", "no"), None),
        (Question("before", "What came before the circle?", "nothing"), None),
        (Question("offtopic", "Who are you?", "I don't know."), None),
    ],
)
def test_age_of_a_question(question, age):
    assert seconds_back(question, SCENE) == age


def test_most_questions_have_an_age():
    clips = list(heldout(4, 20, frames=64, fps=2.0, kinds=(*PRESENT, *PAST)))
    ages = [seconds_back(q, c.scene) for c in clips for q in c.questions]
    assert sum(a is not None for a in ages) > 0.75 * len(ages)
    assert all(0 <= a <= 31.5 for a in ages if a is not None)
    assert sum(a is not None and a > 16 for a in ages) > 20


def test_the_bench_shows_what_forgetting_costs(tmp_path, capsys):
    report, picture = tmp_path / "eviction.json", tmp_path / "eviction.png"
    eviction.main(["--clips", "4", "--budgets", "0.5", "--threads", "1", "--json", str(report), "--plot", str(picture)])
    out = capsys.readouterr().out
    assert "importance beats window" in out
    results = json.loads(report.read_text())["results"]["variants"]
    full, window, importance = (results[n] for n in ("full cache", "window, 0.5 of it", "importance, 0.5 of it"))
    assert full["cache tokens"] > 2 * importance["cache tokens"] * 0.95
    right = {n: r["right and asked"][0] for n, r in results.items()}
    assert right["full cache"] >= right["importance, 0.5 of it"] > right["window, 0.5 of it"]
    past = "right and asked about what a window forgot"
    assert importance[past]["0.5"][0] > window[past]["0.5"][0]
    assert picture.read_bytes().startswith(b"\x89PNG")
