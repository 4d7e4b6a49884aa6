"""The engine thread: order, interleaving, accounts, failures."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from dataclasses import replace

import numpy as np
import pytest

from stream_vl_ros.engine import Finish, Question, RunnerConfig, StreamConfig, Turn, VideoStream
from stream_vl_ros.engine.runner import EngineRunner
from stream_vl_ros.engine.sharing import Sharing
from stream_vl_ros.errors import (
    BusyError,
    ConfigError,
    EngineClosedError,
    FrameError,
    NoVideoError,
    PromptError,
    RequestError,
    TimedOutError,
)

SECOND = 1_000_000_000
LONG = Question("What is it?", max_new_tokens=300)
SHORT = Question("What is it?", max_new_tokens=5)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (40, 60, 80, 3), dtype=np.uint8)


@pytest.fixture
def endless(loaded):
    """The model with no token that ends an answer, so that answers are as long as asked for."""
    import dataclasses

    return dataclasses.replace(loaded, eos_ids=frozenset())


def make(model, *, fps: float = 0, chunk: int = 4, **config) -> EngineRunner:
    settings = {"flush_after": 0.2, "queue_policy": "block"} | config
    return EngineRunner(VideoStream(model, StreamConfig(target_fps=fps, chunk_frames=chunk)), RunnerConfig(**settings))


def push(runner: EngineRunner, video: np.ndarray, start: int = 0) -> None:
    for i, picture in enumerate(video):
        runner.push(picture, (start + i) * SECOND // 2)


def settled(runner: EngineRunner, frames: int, timeout: float = 20.0):
    """The status once all but `frames` frames are decided."""
    end = time.monotonic() + timeout
    while (status := runner.status()).frames.waiting > frames:
        assert status.frames.balanced
        assert time.monotonic() < end, status
        time.sleep(0.01)
    # The accounts and the stream are counted apart: they must agree, looked at on the thread that changes both.
    counted, booked = runner.call(lambda s: (len(s.pending), runner.status())).result(20)
    assert counted == booked.frames.pending
    return booked


def test_every_frame_is_accounted_for(loaded, video):
    with make(loaded, fps=1.0) as runner:
        push(runner, video)
        status = settled(runner, 0)
    assert status.frames.balanced
    assert (status.frames.received, status.frames.ingested, status.frames.skipped, status.frames.dropped) == (
        40,
        20,
        20,
        0,
    )


def test_a_question_sees_exactly_the_frames_before_it(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:11])
        asked = runner.ask(SHORT)
        push(runner, video[11:], 11)
        answer = asked.result(20)
    assert (answer.moment.frames, answer.moment.last_stamp_ns) == (11, 5 * SECOND)
    alone = VideoStream(loaded, StreamConfig(target_fps=0))
    alone.append(video[:11], [i / 2 for i in range(11)])
    assert answer.token_ids == alone.ask(SHORT.text, max_new_tokens=5).token_ids


def test_frames_are_ingested_while_an_answer_is_written(endless, video):
    with make(endless) as runner:
        push(runner, video[:4])
        asked = runner.ask(Question("What is it?", max_new_tokens=10**6), timeout=600)
        push(runner, video[4:], 4)
        during = settled(runner, 0)
        assert not asked.done()
        assert during.frames.ingested == 40
        assert asked.cancel()


def test_two_questions_are_answered_side_by_side(endless, video):
    with make(endless) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        long, short = runner.ask(LONG), runner.ask(SHORT)
        short.result(20)
        assert not long.done()
        assert long.result(60).token_ids[:5] == short.result().token_ids


def test_the_stream_does_not_depend_on_questions(endless, video):
    signatures = []
    for questions in (0, 3):
        with make(endless, flush_after=60.0) as runner:
            for i in range(len(video)):
                push(runner, video[i : i + 1], i)
                if questions and i % 7 == 3:
                    runner.ask(SHORT)
            signatures.append(runner.call(lambda s: s.signature()).result(30))
    assert signatures[0] == signatures[1]


def test_a_partial_chunk_is_flushed(loaded, video):
    with make(loaded, chunk=8, flush_after=0.1) as runner:
        push(runner, video[:3])
        status = settled(runner, 1)
    assert (status.frames.ingested, status.frames.waiting) == (2, 1)


def test_a_full_queue_drops_the_oldest_and_says_so(loaded, video, caplog):
    gate = threading.Event()
    with make(loaded, queue_policy="drop_oldest", queue_frames=6) as runner:
        held = runner.call(lambda _: gate.wait(20))
        push(runner, video[:20])
        asked = runner.ask(SHORT)
        gate.set()
        held.result(20)
        answer = asked.result(20)
        status = settled(runner, 0)
    assert status.frames.drops == {"queue_full": 14}
    assert (answer.moment.frames, answer.moment.first_stamp_ns) == (6, 7 * SECOND)
    assert "queue_frames" in caplog.text and len([r for r in caplog.records if "behind" in r.message]) == 1


def test_bad_frames_are_counted_by_reason_and_nothing_else_changes(loaded, video):
    def broken() -> np.ndarray:
        raise FrameError("unknown_encoding", "image encoding 'x' is not supported")

    def crash() -> np.ndarray:
        raise OSError("truncated")

    with make(loaded) as runner:
        push(runner, video[:4])
        runner.push(broken, 2 * SECOND)
        runner.push(crash, 2 * SECOND)
        runner.push(np.zeros((0, 5, 3), np.uint8), 2 * SECOND)
        runner.push(video[4], SECOND)
        push(runner, video[4:8], 4)
        status = settled(runner, 0)
        answer = runner.ask(SHORT).result(20)
    assert status.frames.drops == {"unknown_encoding": 1, "decode_error": 1, "zero_size": 1, "stamp_backwards": 1}
    assert status.frames.ingested == 8 and status.frames.balanced
    assert answer.moment.frames == 8


@pytest.mark.parametrize(
    ("error", "reason"), [(MemoryError("none left"), "out_of_memory"), (ValueError("none left"), "encode_error")]
)
def test_a_chunk_that_fails_is_dropped_and_the_stream_goes_on(loaded, video, error, reason):
    language = loaded.native.model.language_model
    with make(loaded) as runner:
        push(runner, video[:4])
        settled(runner, 0)
        hook = language.layers[0].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error))
        push(runner, video[4:8], 4)
        status = settled(runner, 0)
        hook.remove()
        push(runner, video[8:12], 8)
        after = settled(runner, 0)
    assert status.frames.drops == {reason: 4} and "none left" in status.problem
    assert after.frames.ingested == 8 and after.frames.balanced


def test_why_there_is_no_video_is_said(loaded, video):
    with make(loaded) as runner:
        for _ in range(2):
            runner.push(video[0][:, :, :2], SECOND)
        with pytest.raises(
            NoVideoError, match=r"of 2 images none was kept, dropped are bad_array 2; the last problem: picture"
        ):
            runner.ask(SHORT).result(20)


def test_a_question_that_fails_fails_alone(loaded, video):
    with make(loaded) as runner:
        with pytest.raises(NoVideoError):
            runner.ask(SHORT).result(20)
        push(runner, video[:4])
        settled(runner, 0)
        hook = loaded.native.lm_head.register_forward_pre_hook(
            lambda *_: (_ for _ in ()).throw(MemoryError("none left"))
        )
        with pytest.raises(RequestError, match="none left"):
            runner.ask(SHORT).result(20)
        hook.remove()
        assert runner.ask(SHORT).result(20).token_ids
        questions = runner.status().questions
    assert (questions.asked, questions.answered, questions.active) == (3, 1, 0) and questions.balanced
    assert questions.refusals == {"no_video": 1, "out_of_memory": 1}


def test_a_deadline_cuts_an_answer_off(endless, video):
    with make(endless) as runner:
        push(runner, video[:4])
        answer = runner.ask(Question("What is it?", max_new_tokens=10**6), timeout=0.5).result(20)
    assert answer.finish is Finish.TIMEOUT and answer.token_ids and not answer.complete
    assert 0.5 <= answer.total_time < 5


def test_a_cancelled_question_stops_at_the_next_token(endless, video):
    with make(endless) as runner:
        push(runner, video[:4])
        asked = runner.ask(Question("What is it?", max_new_tokens=10**6))
        settled(runner, 0)
        assert asked.cancel()
        end = time.monotonic() + 10
        while runner.status().questions.active:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert wait([asked], 5).done  # whoever waits is told
        assert runner.ask(SHORT).result(20).token_ids
    with pytest.raises(CancelledError):
        asked.result()


def test_too_many_questions_are_refused(endless, video):
    with make(endless, max_questions=2) as runner:
        push(runner, video[:4])
        first = [runner.ask(LONG) for _ in range(2)]
        with pytest.raises(BusyError, match=r"busy: 2 questions .* max_questions is 2; none has ended yet") as unknown:
            runner.ask(SHORT)
        assert unknown.value.retry_after is None
        wait(first, 60)
        assert runner.ask(LONG).result(20)
        second = [runner.ask(LONG) for _ in range(2)]
        asked = time.monotonic()
        with pytest.raises(BusyError, match=r"busy: .* a place is free in about \d+\.\d s; ask again then") as known:
            runner.ask(SHORT)
        wait(second, 60, return_when=FIRST_COMPLETED)
        took = time.monotonic() - asked
        assert took / 3 < known.value.retry_after < 3 * took
        wait(second, 60)
        assert runner.ask(SHORT).result(20)
        questions = runner.status().questions
    assert (questions.asked, questions.answered, questions.refusals) == (8, 6, {"busy": 2}) and questions.balanced


def test_every_question_is_accounted_for(endless, video):
    """Answered, cut off with and without a beginning, given up before and after it, and refused for each reason."""
    with make(endless, max_questions=6) as runner:
        for error in (PromptError("question='': it is empty"), ConfigError("timeout=-1")):
            runner.refuse(error)
        with pytest.raises(NoVideoError):
            runner.ask(SHORT).result(20)
        push(runner, video[:4])
        settled(runner, 0)
        written = threading.Event()
        begun = runner.ask(Question("What is it?", max_new_tokens=10**6), on_text=lambda _: written.set())
        cut = runner.ask(Question("What is it?", max_new_tokens=10**6), timeout=0.5)
        late = runner.ask(SHORT, timeout=-1.0)
        unread = runner.ask(SHORT)
        unread.cancel()
        assert written.wait(20)
        assert runner.status().questions.balanced
        begun.cancel()
        assert cut.result(20).finish is Finish.TIMEOUT
        with pytest.raises(TimedOutError):
            late.result(20)
        assert runner.ask(SHORT).result(20)
        left = runner.ask(Question("What is it?", max_new_tokens=10**6))
        during = runner.status().questions
        assert during.active == 1 and during.balanced
    with pytest.raises(EngineClosedError):
        left.result(20)
    with pytest.raises(EngineClosedError):
        runner.ask(SHORT)
    after = runner.status().questions
    assert (after.asked, after.answered, after.cancelled, after.timed_out, after.active) == (10, 1, 2, 2, 0)
    assert after.refusals == {"bad_question": 2, "no_video": 1, "shutdown": 2} and after.balanced


def test_what_is_counted_is_what_the_caller_gets(endless, video):
    """Callers that give up at every moment, the last step included: the accounts know each as its caller does."""
    cancelled = 0
    with make(endless) as runner:
        push(runner, video[:4])
        settled(runner, 0)
        for i in range(60):
            asked = runner.ask(SHORT)
            time.sleep(i % 20 / 2000)
            cancelled += asked.cancel()
        runner.ask(SHORT).result(20)
        questions = runner.status().questions
    assert (questions.cancelled, questions.answered, questions.asked) == (cancelled, 61 - cancelled, 61)
    assert cancelled > 0 and questions.balanced


def test_remember_makes_the_turn_part_of_the_stream(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:7])
        answer = runner.ask(SHORT, remember=True).result(20)
        push(runner, video[7:11], 7)
        status = settled(runner, 0)
        signature = runner.call(lambda s: s.signature()).result(20)
    assert status.frames.ingested == 11 and status.frames.balanced
    alone = VideoStream(loaded, StreamConfig(target_fps=0))
    alone.append(video[:7], [i / 2 for i in range(7)])
    alone.remember(SHORT.text, answer.text)
    alone.append(video[7:11], [i / 2 for i in range(7, 11)])
    assert alone.signature() == signature


def test_a_question_right_after_a_remembered_turn_follows_it(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:8])
        first = [runner.ask(SHORT, remember=True) for _ in range(2)]
        assert all(f.result(20).remembered for f in first)
        answer = runner.ask(SHORT).result(20)
    assert not answer.remembered and answer.moment.frames == 8
    alone = VideoStream(loaded, StreamConfig(target_fps=0))
    alone.append(video[:8], [i / 2 for i in range(8)])
    for future in first:
        alone.remember(SHORT.text, future.result().text)
    assert answer.token_ids == alone.ask(SHORT.text, max_new_tokens=5).token_ids


def test_a_turn_about_forgotten_video_is_not_remembered(endless, video):
    with make(endless) as runner:
        push(runner, video[:4])
        asked = runner.ask(LONG, remember=True)
        runner.reset().result(20)
        empty = runner.call(lambda s: s.signature()).result(20)
        answer = asked.result(60)
        assert runner.call(lambda s: s.signature()).result(20) == empty
    assert answer.complete and len(answer.token_ids) == 300 and not answer.remembered


def test_a_turn_that_cannot_be_remembered_is_answered_all_the_same(endless, video):
    with make(endless, chunk=64, flush_after=60.0) as runner:
        push(runner, video[:7])
        written = threading.Event()
        asked = runner.ask(LONG, remember=True, on_text=lambda _: written.set())
        assert written.wait(20)
        # The fork has seen the waiting frames by now; encoding them for the stream will fail.
        hooks: list = []

        def spoil(stream: VideoStream) -> None:
            vision = stream.model.native.model.visual
            hooks.append(vision.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("none left"))))

        runner.call(spoil).result(20)
        answer = asked.result(60)
        hooks[0].remove()
        status = settled(runner, 7)
    assert answer.complete and not answer.remembered
    assert "none left" in status.problem and status.frames.pending == 7


@pytest.mark.alone
def test_many_questions_leave_the_video_its_share_of_the_time(endless, video):
    """With half of the time for answers, frames take about twice as long as without, however many ask."""
    seconds = []
    for questions in (0, 32):
        with make(endless) as runner:
            push(runner, video[:4])
            asked = [runner.ask(Question("What is it?", max_new_tokens=10**6), timeout=600) for _ in range(questions)]
            while runner.status().questions.active < questions:
                time.sleep(0.01)
            settled(runner, 0)
            started = time.perf_counter()
            for i in range(5):
                push(runner, video[4:], 4 + 36 * i)
            settled(runner, 0, timeout=120)
            seconds.append(time.perf_counter() - started)
            assert not any(f.done() for f in asked)
    assert seconds[1] < 6 * seconds[0], seconds


def test_reset_keeps_the_accounts(loaded, video):
    with make(loaded, flush_after=60.0) as runner:
        push(runner, video[:7])
        runner.reset().result(20)
        assert runner.status().frames.drops == {"reset": 3}
        push(runner, video[:4])
        status = settled(runner, 0)
    assert status.frames.drops == {"reset": 3} and status.frames.ingested == 8 and status.frames.balanced


def test_reset_ends_the_complaint_about_what_came_before(loaded, video):
    gate = threading.Event()
    with make(loaded) as runner:
        push(runner, video[:4], 4)
        push(runner, video[:1], 6)
        assert "is not later" in settled(runner, 0).problem
        held = runner.call(lambda _: gate.wait(20))
        done = runner.reset()
        push(runner, video[:1], 8)
        push(runner, video[:1], 7)
        assert runner.status().problem  # not before its turn
        gate.set()
        held.result(20)
        done.result(20)
        # What went wrong after it is told all the same, on the same thread and in the same order.
        assert "is not later" in settled(runner, 1).problem
        runner.reset().result(20)
        assert runner.status().problem == ""
        assert runner.status().frames.drops == {"stamp_backwards": 2, "reset": 1}


def test_closing_fails_what_is_unanswered_and_counts_what_waits(endless, video):
    runner = make(endless, flush_after=60.0)
    with runner:
        push(runner, video[:7])
        asked = runner.ask(Question("What is it?", max_new_tokens=10**6))
        settled(runner, 3)
    with pytest.raises(EngineClosedError):
        asked.result(5)
    with pytest.raises(EngineClosedError):
        runner.push(video[0], 100 * SECOND)
    status = runner.status()
    assert status.frames.drops == {"shutdown": 3} and status.frames.balanced
    assert status.questions.active == 0


def test_closing_before_the_start_fails_what_was_asked(loaded):
    runner = make(loaded)
    asked = runner.ask(SHORT)
    runner.close()
    with pytest.raises(EngineClosedError):
        asked.result(5)


def test_a_failing_action_fails_alone(loaded, video):
    def broken(_: VideoStream) -> None:
        raise OSError("disk full")

    with make(loaded) as runner:
        with pytest.raises(RequestError, match="disk full"):
            runner.call(broken).result(20)
        push(runner, video[:4])
        assert settled(runner, 0).frames.ingested == 4


def test_an_engine_that_dies_says_so_and_leaves_nobody_waiting(loaded, video):
    def fatal() -> np.ndarray:
        raise SystemExit("out of the blue")

    with make(loaded) as runner:
        gate = threading.Event()
        runner.call(lambda _: gate.wait(20))
        runner.push(fatal, 0)
        asked = runner.ask(SHORT)
        gate.set()
        with pytest.raises(EngineClosedError):
            asked.result(20)
        with pytest.raises(EngineClosedError):
            runner.push(video[0], SECOND)
        status = runner.status()
    assert "the engine stopped: SystemExit: out of the blue" in status.problem
    assert status.frames.balanced and status.frames.drops == {"shutdown": 1}


def test_a_blocking_queue_loses_nothing(loaded, video):
    with make(loaded, queue_frames=2) as runner:
        threads = threading.Thread(target=push, args=(runner, video))
        threads.start()
        threads.join(30)
        assert not threads.is_alive()
        status = settled(runner, 0)
    assert (status.frames.ingested, status.frames.dropped) == (40, 0)


def test_a_dialogue_goes_on_from_turn_to_turn(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:8])
        first = runner.ask(SHORT, dialogue="one").result(20)
        push(runner, video[8:16], 8)
        settled(runner, 0)
        second = runner.ask(SHORT, dialogue="one").result(20)
        other = runner.ask(SHORT, dialogue="two").result(20)
        history = (Turn(SHORT.text, first.text),)
        assert runner.dialogues.history("one") == (*history, Turn(SHORT.text, second.text))
        asked = replace(SHORT, history=history)
        alone = runner.call(lambda s: (s.ask(asked).token_ids, s.ask(SHORT).token_ids)).result(20)
    assert (second.token_ids, other.token_ids) == alone
    assert second.token_ids != other.token_ids


def test_a_turn_that_was_not_finished_is_not_part_of_its_dialogue(endless, video):
    with make(endless) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        late = runner.ask(replace(LONG, max_new_tokens=5000), dialogue="one", timeout=0.3).result(20)
        gone = runner.ask(replace(LONG, max_new_tokens=5000), dialogue="one")
        gone.cancel()
        runner.ask(SHORT).result(20)
        assert late.finish is Finish.TIMEOUT
        assert runner.dialogues.history("one") == ()


def test_a_remembered_turn_is_not_in_its_dialogue_twice(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:8])
        assert runner.ask(SHORT, dialogue="one", remember=True).result(20).remembered
        assert runner.dialogues.history("one") == ()
        assert runner.call(lambda s: s.state.answered).result(20)


def test_text_comes_as_it_is_written(loaded, video):
    pieces: dict[str, list[str]] = {"free": [], "choice": []}
    at = []
    with make(loaded) as runner:
        push(runner, video[:8])
        question = Question("What is it?", max_new_tokens=20)

        def on_text(text: str) -> None:
            pieces["free"].append(text)
            at.append(time.monotonic())

        free = runner.ask(question, on_text=on_text).result(20)
        ended = time.monotonic()
        choice = runner.ask(Question("Is it?", ("yes", "no")), on_text=pieces["choice"].append).result(20)
    assert "".join(pieces["free"]) == free.text
    assert len(pieces["free"]) > 3
    assert at[0] < at[-1] <= ended
    assert pieces["choice"] == [choice.text]


def test_a_listener_that_fails_fails_its_own_request_only(loaded, video):
    def broken(text: str) -> None:
        raise OSError("the client has gone")

    with make(loaded) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        bad = runner.ask(replace(SHORT, max_new_tokens=30), on_text=broken)
        good = runner.ask(SHORT)
        with pytest.raises(RequestError, match="the client has gone"):
            bad.result(20)
        assert good.result(20).token_ids
        assert runner.status().questions.refusals == {"engine_error": 1}


@pytest.mark.parametrize("bound", [{}, {"regex": "(red |blue ){2000}"}])
def test_cancelling_frees_the_fork_within_a_step(endless, video, bound):
    """The batch holds no row any more when the next token of the others is written."""
    with make(endless) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        written = []
        gone = runner.ask(
            replace(LONG, max_new_tokens=5000, **bound), on_text=lambda _: written.append(time.monotonic())
        )
        while not written:
            time.sleep(0.001)
        gone.cancel()
        # Runs between two steps, behind the step that may be under way.
        rows = [runner.call(lambda _: len(runner._answering._batch)).result(20) for _ in range(3)]
        assert rows[-1] == 0
        assert runner.call(lambda _: runner._answering.memory_bytes).result(20) == 0
        count = len(written)
        time.sleep(0.1)
        assert len(written) == count
        assert runner.status().questions.cancelled == 1


def test_a_deadline_gives_what_was_written(endless, video):
    with make(endless) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        bound = runner.ask(replace(LONG, max_new_tokens=5000, regex="(red |blue ){2000}"), timeout=0.5)
        free = runner.ask(replace(LONG, max_new_tokens=5000), timeout=0.5)
        for answer in (bound.result(20), free.result(20)):
            assert answer.finish is Finish.TIMEOUT
            assert answer.text
            assert 0.5 <= answer.total_time < 5
        assert "red " in bound.result().text or "blue " in bound.result().text


def test_memories_are_kept_gone_back_to_and_let_go_of(loaded, video):
    question = Question("What is it?", max_new_tokens=12)
    with make(loaded) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        assert runner.keep("kitchen").result(20) == {"kitchen": runner.status().cache_tokens}
        before = runner.call(lambda s: s.signature()).result(20)
        push(runner, video[8:20], 8)
        later = runner.ask(question).result(20)
        settled(runner, 0)
        assert len(runner.keep("hall").result(20)) == 2
        push(runner, video[20:21], 20)

        for _ in range(2):
            runner.recall("kitchen").result(20)
            status = settled(runner, 0)
            assert runner.call(lambda s: s.signature()).result(20) == before
            # What came since may come again: it is as if it had not been there.
            push(runner, video[8:20], 8)
            assert runner.ask(question).result(20).token_ids == later.token_ids
            status = settled(runner, 0)
        assert status.frames.drops == {"restore": 1}
        assert status.frames.balanced
        runner.reset().result(20)
        runner.recall("hall").result(20)
        assert runner.ask(question).result(20).token_ids == later.token_ids

        assert list(runner.discard("kitchen").result(20)) == ["hall"]
        for refused, reason in (
            (runner.recall("kitchen"), "no memory of that name; kept are 'hall'"),
            (runner.discard("cellar"), "no memory of that name"),
            (runner.keep(" "), "1 to 256 characters"),
        ):
            with pytest.raises(RequestError, match=reason):
                refused.result(20)
        for i in range(15):
            runner.keep(f"{i}").result(20)
        with pytest.raises(RequestError, match="more than 16 are not"):
            runner.keep("one more").result(20)
        assert len(runner.keep("hall").result(20)) == 16


def test_a_frame_without_its_partner_is_not_part_of_a_memory(loaded, video):
    with make(loaded, flush_after=60.0) as runner:
        push(runner, video[:7])
        runner.keep("kitchen").result(20)
        status = settled(runner, 1)
        assert (status.frames.ingested, status.frames.pending) == (6, 1)
        runner.recall("kitchen").result(20)
        assert settled(runner, 0).frames.drops == {"restore": 1}
        assert runner.ask(Question("What is it?", max_new_tokens=2)).result(20).moment.frames == 6


def test_nothing_is_kept_of_no_video(loaded):
    with make(loaded) as runner, pytest.raises(RequestError, match="nothing to keep"):
        runner.keep("kitchen").result(20)


def test_a_turn_about_video_that_was_gone_back_from_is_not_remembered(endless, video):
    with make(endless) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        runner.keep("kitchen").result(20)
        before = runner.call(lambda s: s.signature()).result(20)
        asked = runner.ask(Question("What is it?", max_new_tokens=200), remember=True)
        runner.recall("kitchen").result(20)
        assert not asked.result(60).remembered
        assert runner.call(lambda s: s.signature()).result(20) == before


def test_streams_share_one_model(loaded, endless, video):
    """Two runners on one model at the same time: each answer is the one that its stream gives alone."""
    sharing = Sharing()
    other = video[::-1].copy()
    expected = []
    for clip in (video, other):
        alone = VideoStream(endless, StreamConfig(target_fps=0))
        alone.append(clip, [i / 2 for i in range(len(clip))])
        expected.append(alone.ask(LONG.text, max_new_tokens=100).token_ids)
    settings = RunnerConfig(flush_after=0.2, queue_policy="block")
    runners = [
        EngineRunner(VideoStream(endless, StreamConfig(target_fps=0)), settings, share=sharing.member())
        for _ in range(2)
    ]
    with runners[0] as front, runners[1] as rear:
        pushers = [threading.Thread(target=push, args=pair) for pair in ((front, video), (rear, other))]
        for pusher in pushers:
            pusher.start()
        early = [runner.ask(LONG) for runner in (front, rear) for _ in range(3)]
        for pusher in pushers:
            pusher.join(30)
        late = [runner.ask(replace(LONG, max_new_tokens=100)).result(60).token_ids for runner in (front, rear)]
        assert late == expected
        for future in early:
            assert future.exception(60) is None or isinstance(future.exception(), NoVideoError)
        assert settled(front, 0).frames.ingested == settled(rear, 0).frames.ingested == 40


@pytest.mark.alone
def test_a_busy_stream_does_not_starve_another(loaded, endless, video):
    """Frames without end on one; the other one's answer is written meanwhile."""
    sharing = Sharing()
    settings = RunnerConfig(flush_after=0.2, queue_policy="block", queue_frames=8)
    busy = EngineRunner(VideoStream(endless, StreamConfig(target_fps=0)), settings, share=sharing.member())
    calm = EngineRunner(VideoStream(endless, StreamConfig(target_fps=0)), settings, share=sharing.member())
    stop = threading.Event()

    def flood() -> None:
        i = 0
        while not stop.is_set():
            busy.push(video[i % 40], i * SECOND // 2)
            i += 1

    with busy, calm:
        push(calm, video[:8])
        settled(calm, 0)
        pusher = threading.Thread(target=flood)
        pusher.start()
        try:
            before = busy.status().frames.ingested
            answer = calm.ask(LONG).result(60)
            during = busy.status().frames.ingested - before
        finally:
            stop.set()
            pusher.join(20)
    assert len(answer.token_ids) == 300
    assert during >= 8, "and the busy one went on meanwhile"
