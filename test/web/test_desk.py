"""What becomes of questions, statuses, events and answers, without ROS and without a web server."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest

from stream_vl_ros.errors import ConfigError, WebError
from stream_vl_ros.web.board import Board
from stream_vl_ros.web.desk import Desk, Inquiry
from stream_vl_ros.web.exports import to_csv, to_json
from stream_vl_ros.web.history import Entry, History
from stream_vl_ros.web.moments import Moment, Moments
from stream_vl_ros.web.options import PARAMETERS, WebOptions, web_options
from stream_vl_ros.web.scores import POINTS, Scores
from stream_vl_ros.web.store import Store

SECOND = 1_000_000_000


class Asker:
    def __init__(self) -> None:
        self.asked: list[tuple[int, dict[str, Any]]] = []
        self.stopped: list[int] = []

    def ask(self, number, fields):
        self.asked.append((number, dict(fields)))

    def stop(self, number):
        self.stopped.append(number)


class Pictures:
    def __init__(self) -> None:
        self.pinned: list[str] = []

    def pin(self, stream):
        self.pinned.append(stream)

    def span(self, stream, first, last, count):
        return [Moment(last, b"jpeg")] if last else []


class World:
    """A desk with a clock of its own."""

    def __init__(self, streams: tuple[str, ...] = ("",)) -> None:
        self.now = 100.0
        self.asker, self.pictures, self.board = Asker(), Pictures(), Board()
        self.history = History(5, changed=lambda e: self.desk.show(e), dropped=lambda e: self.desk.hide(e))
        self.desk = Desk(self.board, self.history, self.asker, self.pictures, "/stream_vl", clock=lambda: self.now)
        self.desk.streams({name: f"/{name}/image" for name in streams})
        for name in streams:
            self.status(name)

    def status(self, name: str = "", **changes: Any) -> None:
        self.desk.status(name, {**STATUS, **changes})

    def later(self, seconds: float) -> None:
        """Time passes, in which the node says that it is there."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            for name in list(self.desk._streams):
                self.desk.status(name, self.desk._streams[name].latest or STATUS)
            self.desk.tick()

    def silence(self, seconds: float) -> None:
        self.now += seconds
        self.desk.tick()

    @property
    def last(self) -> Entry:
        return list(self.history)[-1]

    @property
    def node(self) -> dict[str, Any]:
        return self.board["node"]  # type: ignore[return-value]


STATUS: dict[str, Any] = {
    "state": "active", "message": "", "stream": "", "image_topic": "/camera/image_raw", "publishers": 1,
    "frames_received": 100, "frames_ingested": 50, "frames_skipped": 40, "frames_dropped": 5, "frames_waiting": 5,
    "drop_reasons": ["queue_full"], "drop_counts": [5], "first_stamp": SECOND, "last_stamp": 26 * SECOND,
    "time_jumps_back": 0, "time_gaps": 0, "frame_width": 112, "frame_height": 112, "cache_tokens": 400,
    "cache_bytes": 8 << 20, "evicted_frames": 0, "evicted_tokens": 0, "chunks": 12, "last_chunk_time": 0.02,
    "mean_chunk_time": 0.03, "questions_asked": 3, "questions_answered": 3, "questions_cancelled": 0,
    "questions_refused": 0, "questions_timed_out": 0, "questions_active": 0, "refuse_reasons": [], "refuse_counts": [],
    "watches": 0, "last_watch_time": 0.0, "mean_watch_time": 0.0, "cache_signature": "",
    "model": "tiny", "device": "cpu", "dtype": "float32",
    "device_memory_used": 1 << 30, "device_memory_total": 4 << 30,
}  # fmt: skip
RESULT: dict[str, Any] = {
    "success": True, "answer": "a red circle", "scores": [], "error": "", "retry_after": 0.0, "remembered": False,
    "first_stamp": SECOND, "last_stamp": 20 * SECOND, "frames_seen": 40, "ttft": 0.05, "total_time": 0.15,
    "answer_tokens": 5, "cache_tokens": 300, "cache_bytes": 8 << 20, "streams": [""],
    "answers": [], "errors": [], "remembered_by": [],
}  # fmt: skip
ANSWER = {**RESULT, "id": 4, "stream": "", "question": "What?", "choices": [], "dialogue": ""}


def test_a_question_from_beginning_to_end():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    assert world.asker.asked[0][1]["question"] == "What?" and world.pictures.pinned == [""]
    world.desk.accepted(entry.id)
    world.desk.written(entry.id, "a red")
    assert world.board["entry/1"]["state"] == "writing" and world.board["entry/1"]["answer"] == "a red"
    world.desk.answer(ANSWER)
    world.desk.result(entry.id, RESULT, canceled=False)
    world.later(10)
    document = world.board["entry/1"]
    assert document["state"] == "done" and document["answer"] == "a red circle" and document["last_stamp"] == 20.0
    assert document["tokens_per_second"] == pytest.approx(40) and document["frames"] == [20.0]
    assert len(world.history) == 1  # ~/answer told of the same one
    world.desk.written(entry.id, " more")  # too late
    assert world.board["entry/1"]["answer"] == "a red circle"


def test_our_answer_may_come_after_its_result():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.desk.result(entry.id, RESULT, canceled=False)
    world.desk.answer(ANSWER)
    world.later(10)
    assert len(world.history) == 1


def test_somebody_else_s_answer_is_shown():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.desk.accepted(entry.id)
    world.desk.answer(
        {**ANSWER, "question": "And?", "total_time": 0.5, "choices": ["yes", "no"], "scores": [-0.1, -3.0]}
    )
    world.desk.answer({**ANSWER, "total_time": 0.7})  # the same question at the same time
    world.desk.result(entry.id, RESULT, canceled=False)
    world.later(4)
    others = [e for e in world.history if e.origin == "other"]
    assert [e.question for e in others] == ["And?", "What?"] and others[1].total_time == 0.7
    assert sum(others[0].probabilities) == pytest.approx(1) and others[0].moments


def test_a_result_that_was_lost_is_taken_from_the_topic():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.desk.accepted(entry.id)
    world.desk.answer(ANSWER)
    world.later(3)
    assert entry.state == "waiting"
    world.later(4)
    assert entry.state == "done" and entry.answer == "a red circle" and len(world.history) == 1


def test_stopped_and_failed():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.desk.stop(entry.id)
    assert world.asker.stopped == [entry.id]
    cut = {**RESULT, "success": False, "answer": "a", "error": "cancelled by the caller"}
    world.desk.result(entry.id, cut, canceled=True)
    assert (entry.state, entry.answer, entry.error) == ("stopped", "a", "")
    world.desk.stop(entry.id)
    assert world.asker.stopped == [entry.id]
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.desk.written(entry.id, "half")
    world.desk.result(entry.id, {**RESULT, "success": False, "answer": "", "error": "timed out"}, canceled=False)
    assert (entry.state, entry.answer, entry.error) == ("failed", "half", "timed out")
    with pytest.raises(WebError, match="no answer 99"):
        world.desk.stop(99)


def test_the_node_goes_and_comes_back():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.silence(4)
    assert world.node["state"] == "active" and entry.state == "waiting"
    world.silence(2)
    assert world.node["state"] == "gone" and "says nothing any more" in world.node["sentence"]
    assert entry.state == "failed" and "went away" in entry.error
    with pytest.raises(WebError, match="says nothing any more"):
        world.desk.ask(Inquiry("What?"))
    world.status(state="loading", message="step 2 of 3", frames_received=0, frames_ingested=0, frames_skipped=0)
    assert world.node == {"name": "/stream_vl", "state": "loading", "sentence": "The node is starting: step 2 of 3."}
    assert world.last.state == "note" and "remembers nothing from before" in world.last.answer
    world.desk.result(entry.id, RESULT, canceled=False)  # it was only late
    assert entry.state == "done"


def test_a_node_that_is_started_anew_at_once_is_noticed():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.now += 1
    world.status(frames_received=3, frames_ingested=0, frames_skipped=0, frames_dropped=0, questions_asked=0)
    assert entry.state == "failed" and "started anew" in entry.error
    assert [e.state for e in world.history] == ["failed", "note"]


def test_a_question_that_the_node_does_not_take():
    world = World()
    (entry,) = world.desk.ask(Inquiry("What?"))
    world.later(11)
    assert entry.state == "failed" and "did not take the question" in entry.error
    assert world.asker.stopped == [entry.id]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("error", "problem: no such file"),
        ("inactive", "takes no images"),
        ("unconfigured", "is unconfigured"),
        ("active", "no such file"),
    ],
)
def test_states_in_words(state, words):
    world = World()
    world.status(state=state, message="no such file")
    assert words in world.node["sentence"] and world.node["state"] == state


def test_a_problem_is_news_for_a_while():
    world = World()
    world.status(message="no image on /camera/image_raw for 7 s", frames_dropped=5)
    world.later(15)
    assert world.node["sentence"].startswith("no image on")  # as long as the node says so
    world.status(message="a frame was dropped")
    world.later(8)
    assert world.node["sentence"] == "a frame was dropped"
    world.later(4)
    assert world.node["sentence"] == "" and world.board["stream/"]["message"] == "a frame was dropped"
    world.status(message="a frame was dropped", questions_refused=1, refuse_reasons=["busy"], refuse_counts=[1])
    assert world.node["sentence"] == "", "a question that was refused is no news of a frame"
    assert world.board["stream/"]["refusals"] == [["busy", 1]]
    world.status(message="a frame was dropped", frames_dropped=6)
    assert world.node["sentence"] == "a frame was dropped"


def test_several_cameras():
    world = World(("front", "rear"))
    entries = world.desk.ask(Inquiry("What?", stream="all"))
    assert [e.stream for e in entries] == ["front", "rear"]
    assert [fields["stream"] for _, fields in world.asker.asked] == ["front", "rear"]
    with pytest.raises(WebError, match="no such camera"):
        world.desk.ask(Inquiry("What?", stream="side"))
    with pytest.raises(WebError):
        world.desk.topic("side")
    assert world.desk.topic("rear") == "/camera/image_raw"
    world.status("rear", message="no image on /rear for 5 s")
    world.status("front")
    assert world.node["sentence"] == "rear: no image on /rear for 5 s"
    world.desk.streams({"front": "/front/image"})
    world.status("front")
    assert world.node["sentence"] == ""
    with pytest.raises(KeyError):
        world.board["stream/rear"]


def test_rates_and_limits():
    world = World()
    world.desk.limits("", {"budget_seconds": 60.0})
    for n in range(1, 6):
        world.now += 1
        world.status(frames_received=100 + 4 * n, frames_ingested=50 + 2 * n, frames_skipped=40 + 2 * n)
    document = world.board["stream/"]
    assert document["rates"] == {"received": 4.0, "ingested": 2.0, "skipped": 2.0, "dropped": 0.0}
    assert document["drops"] == [["queue_full", 5]] and document["limits"] == {"budget_seconds": 60.0}
    assert document["first_stamp"] == 1.0


class TestHistory:
    def test_is_bounded(self):
        dropped = []
        history = History(3, dropped=dropped.append)
        for n in range(5):
            history.add(float(n), question=str(n))
        assert [e.question for e in history] == ["2", "3", "4"] and [e.id for e in dropped] == [1, 2]
        assert history.get(1) is None and history.add(9.0).id == 6

    def test_survives_on_disk(self, tmp_path):
        store = Store(tmp_path / "kept")
        history = History(3, changed=store.save, dropped=store.drop)
        for n in range(5):
            entry = history.add(float(n), question=f"{n}?")
            history.update(
                entry,
                state="done",
                answer="\u00fc",
                choices=("a", "b"),
                scores=(-1.0, math.nan),
                moments=(Moment(5, b"\xff"),),
            )
        history.add(9.0, question="not answered")
        (tmp_path / "kept" / "entry-junk.json").write_text("{")
        (tmp_path / "kept" / "mine.txt").write_text("x")
        again = Store(tmp_path / "kept").load(10)
        assert [e.question for e in again] == ["3?", "4?"]
        assert (
            again[0].moments == (Moment(5, b"\xff"),)
            and again[0].choices == ("a", "b")
            and math.isnan(again[0].scores[1])
        )
        assert (tmp_path / "kept").stat().st_mode & 0o77 == 0
        assert [e.id for e in Store(tmp_path / "kept").load(1)] == [5]
        assert sorted(p.name for p in (tmp_path / "kept").glob("entry-0*")) == ["entry-00000005.json"]
        assert History(10, entries=again).add(0.0).id == 6

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WebError, match=r"history_folder=.*cannot be written to"):
            Store(tmp_path / "file")

    def test_export(self):
        history = History(9)
        entry = history.add(1.0, question='=HYPERLINK("evil")', choices=("yes", "no"))
        history.update(entry, state="done", answer="yes", scores=(-0.1, math.nan), last_stamp=1_700_000_000_500_000_000)
        (row,) = json.loads(to_json(history))
        assert row["question"] == '=HYPERLINK("evil")' and row["scores"] == [-0.1, None] and row["probabilities"] == []
        assert row["last_stamp"] == 1_700_000_000.5
        (line,) = csv.DictReader(io.StringIO(to_csv(history)))
        assert line["question"] == '\'=HYPERLINK("evil")' and json.loads(line["choices"]) == ["yes", "no"]


class TestMoments:
    def ring(self, *seconds: float, limit: int = 1000) -> Moments:
        moments = Moments(limit, period=0.5)
        for s in seconds:
            moments.add(Moment(round(s * SECOND), str(s).encode()))
        return moments

    def stamps(self, moments: list[Moment]) -> list[float]:
        return [m.stamp / SECOND for m in moments]

    def test_due(self):
        ring = self.ring(10)
        assert (
            not ring.is_due(10 * SECOND) and not ring.is_due(round(10.4 * SECOND)) and ring.is_due(round(10.5 * SECOND))
        )
        assert ring.is_due(3 * SECOND) and self.ring().is_due(0)

    def test_span(self):
        ring = self.ring(*range(20))
        assert self.stamps(ring.span(5 * SECOND, 8 * SECOND, 10)) == [5, 6, 7, 8]
        assert self.stamps(ring.span(0, round(15.5 * SECOND), 4)) == [0, 5, 10, 15]
        assert self.stamps(ring.span(0, 15 * SECOND, 1)) == [15]
        assert self.ring().span(0, SECOND, 3) == [] and ring.span(30 * SECOND, 40 * SECOND, 3) == []

    def test_rounds_with_the_same_stamps(self):
        ring = self.ring(0, 1, 2, 3, 0, 1, 2)
        assert self.stamps(ring.span(0, 2 * SECOND, 10)) == [0, 1, 2]
        # It saw the end of one round and the beginning of the next.
        assert self.stamps(ring.span(2 * SECOND, 1 * SECOND, 10)) == [0, 1, 2, 3, 0, 1]

    def test_is_bounded(self):
        assert len(self.ring(*range(50), limit=7)) == 7


class TestScores:
    def listing(self, stamp: int, p: float, **changes: Any) -> dict[str, Any]:
        one = {
            "streams": "", "names": "door", "questions": "Open?", "fires_on": "yes", "firing": False,
            "probabilities": p,
            "thresholds": 0.5, "hysteresis": 0.1, "min_intervals": 0.0, "stamps": stamp, "events": 0, "errors": "",
        }  # fmt: skip
        return {name: [value] for name, value in (one | changes).items()}

    def test_a_line_of_its_own(self):
        scores = Scores()
        for second in (1, 1, 2, 3):
            scores.listed(self.listing(second * SECOND, second / 10))
        document = scores.document(("", "door"))
        assert document["points"] == [[1.0, 0.1], [2.0, 0.2], [3.0, 0.3]] and document["threshold"] == 0.5
        for second in range(1000):
            scores.listed(self.listing((10 + second) * SECOND, 0.5))
        assert len(scores.document(("", "door"))["points"]) == POINTS

    def test_not_asked_yet_changed_and_gone(self):
        scores = Scores()
        scores.listed(self.listing(0, -1.0))
        assert scores.document(("", "door"))["points"] == []
        scores.listed(self.listing(SECOND, 0.4))
        scores.listed(self.listing(2 * SECOND, 0.6, questions="Shut?"))
        assert scores.document(("", "door"))["points"] == [[2.0, 0.6]]
        documents, gone = scores.listed({name: [] for name in self.listing(0, 0)})
        assert documents == {} and gone == [("", "door")] and ("", "door") not in scores

    def test_events(self):
        scores = Scores()
        scores.listed(self.listing(SECOND, 0.1))
        event = {
            "stream": "", "name": "door", "question": "Open?", "fired": True, "removed": False, "option": "yes",
            "probability": 0.9, "last_stamp": 2 * SECOND,
        }  # fmt: skip
        assert scores.told(event) == ("", "door")
        document = scores.document(("", "door"))
        assert document["firing"] and document["marks"] == [[2.0, True]] and document["points"][-1] == [2.0, 0.9]
        scores.told({**event, "name": "unknown"})
        assert [e["name"] for e in scores.events] == ["door", "unknown"]


class TestOptions:
    def test_defaults(self):
        options = web_options({}, {})
        assert options.host == "127.0.0.1" and options.is_local and options.password == "" and len(options.presets) >= 3
        assert set(WebOptions.__slots__) - {"password"} == {p.name for p in PARAMETERS} - {"password_file"}
        assert all(
            getattr(WebOptions(), p.name) == p.default for p in PARAMETERS if type(p.default) in (int, float, bool)
        )

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "robot"])
    def test_another_address_needs_a_password(self, host, tmp_path):
        with pytest.raises(ConfigError, match=r"host=.*needs a password.*STREAM_VL_WEB_PASSWORD"):
            web_options({"host": host}, {})
        assert web_options({"host": host}, {"STREAM_VL_WEB_PASSWORD": "x"}).password == "x"
        (tmp_path / "p").write_text("secret \nmore\n")
        assert web_options({"host": host, "password_file": str(tmp_path / "p")}, {}).password == "secret"

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"port": 70000}, "port=70000"),
            ({"password_file": "/no/such"}, "cannot be read"),
            ({"node": "/a b"}, "full name of a node"),
            ({"node": ""}, "full name of a node"),
            ({"live_fps": 0}, "at least 0.1"),
            ({"history_entries": "many"}, "whole number"),
        ],
    )
    def test_wrong_values(self, values, words):
        with pytest.raises(ConfigError, match=words):
            web_options(values, {})

    def test_an_empty_password_file(self, tmp_path):
        (tmp_path / "p").write_text("\n")
        with pytest.raises(ConfigError, match="first line is empty"):
            web_options({"password_file": str(tmp_path / "p")}, {})
