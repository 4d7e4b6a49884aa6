"""Engine results to ROS messages. Field by field, no logic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time

from stream_vl_ros.action import AskStream
from stream_vl_ros.brief import brief
from stream_vl_ros.engine.answer import Answer, Finish
from stream_vl_ros.engine.prompt import MAX_CHARACTERS, MAX_CHOICES
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import BusyError
from stream_vl_ros.msg import Answer as AnswerMsg
from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.srv import Ask

if TYPE_CHECKING:
    from stream_vl_ros.engine.runner_state import RunnerStatus


def to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def to_time(ns: int) -> Time:
    """Stamp of nanoseconds."""
    return Time(sec=ns // NANOSECONDS, nanosec=ns % NANOSECONDS)


def wire(text: str) -> str:
    """`text` as DDS can carry it: a NUL would end it there, and half a surrogate pair is no UTF-8."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def reason(error: Exception) -> str:
    """Why something was refused, as a response carries it."""
    return wire(brief(str(error)))


def cut_short(answer: Answer) -> str:
    """Why an answer is not complete; empty if it is."""
    if answer.finish is Finish.TIMEOUT:
        return (
            f"timed out after {answer.total_time:.1f} s with {len(answer.token_ids)} tokens written; "
            "allow more time (timeout, ask_timeout) or fewer tokens (max_new_tokens)"
        )
    if not answer.fulfilled:
        return (
            f"cut off after {len(answer.token_ids)} tokens, before the regex or json_schema was fulfilled; allow more "
            "(max_new_tokens)"
        )
    return "" if answer.complete else f"the answer was {answer.finish.value}"


def fill_response(response: Ask.Response, answer: Answer) -> None:
    """What one stream answered."""
    response.success = answer.complete
    response.answer = wire(answer.text)
    response.remembered = answer.remembered
    response.scores = list(answer.scores)
    response.error = cut_short(answer)
    response.first_stamp = to_time(answer.moment.first_stamp_ns)
    response.last_stamp = to_time(answer.moment.last_stamp_ns)
    response.frames_seen = answer.moment.frames
    response.ttft = answer.ttft
    response.total_time = answer.total_time
    response.answer_tokens = len(answer.token_ids)
    response.cache_tokens = answer.moment.cache_tokens
    response.cache_bytes = answer.moment.cache_bytes


def refuse(response: Ask.Response | AskStream.Result, error: Exception, written: str = "") -> None:
    """A question that was not answered: why, and what was written before it failed."""
    response.success, response.error, response.answer = False, reason(error), wire(written)
    if isinstance(error, BusyError):
        response.retry_after = -1.0 if error.retry_after is None else error.retry_after


def combine(
    response: Ask.Response | AskStream.Result, names: Sequence[str], parts: Sequence[Ask.Response], choices: int
) -> None:
    """The response to a question of so many `choices`, from what each of the streams answered."""
    response.streams = list(names)
    response.answers = [p.answer for p in parts]
    response.errors = [p.error for p in parts]
    response.remembered_by = [p.remembered for p in parts]
    if len(parts) == 1:
        for name in _OF_ONE:
            setattr(response, name, getattr(parts[0], name))
        return
    response.success = all(p.success for p in parts)
    response.answer = _labelled(names, response.answers)
    response.error = _labelled(names, response.errors)
    response.remembered = all(p.remembered for p in parts)
    response.scores = [score for p in parts for score in (p.scores or [math.nan] * choices)]
    saw = [p for p in parts if p.frames_seen]
    if saw:
        response.first_stamp = min((p.first_stamp for p in saw), key=to_ns)
        response.last_stamp = max((p.last_stamp for p in saw), key=to_ns)
        response.ttft = min(p.ttft for p in saw)
    response.total_time = max(p.total_time for p in parts)
    waits = [p.retry_after for p in parts]
    response.retry_after = -1.0 if min(waits) < 0 else max(waits)
    for name in ("frames_seen", "answer_tokens", "cache_tokens", "cache_bytes"):
        setattr(response, name, sum(getattr(p, name) for p in parts))


_OF_ALL = ("streams", "answers", "errors", "remembered_by")
_OF_ONE = [name for name in Ask.Response.get_fields_and_field_types() if name not in _OF_ALL]


def _labelled(names: Sequence[str], texts: Sequence[str]) -> str:
    return "\n".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True) if text)


def answer_message(
    number: int,
    stream: str,
    request: Ask.Request | AskStream.Goal,
    response: Ask.Response | AskStream.Result,
    frame_id: str,
    now: Time,
) -> AnswerMsg:
    """What is published of a request and what one stream answered."""
    message = AnswerMsg()
    message.header.stamp = response.last_stamp if response.frames_seen else now
    message.header.frame_id = frame_id
    message.id, message.stream = number, stream
    # What is longer was refused, and is not sent on to everybody.
    message.question = brief(request.question, MAX_CHARACTERS)
    message.choices = [brief(choice, MAX_CHARACTERS) for choice in request.choices[:MAX_CHOICES]]
    message.dialogue = brief(request.dialogue)
    for name in _OF_ONE:
        setattr(message, name, getattr(response, name))
    return message


def status_message(status: RunnerStatus) -> StreamStatus:
    """The runner's part of the status message."""
    frames, questions, chunks = status.frames, status.questions, status.chunks
    message = StreamStatus()
    message.frames_received = frames.received
    message.frames_ingested = frames.ingested
    message.frames_skipped = frames.skipped
    message.frames_dropped = frames.dropped
    message.frames_waiting = frames.waiting
    message.drop_reasons = list(frames.drops)
    message.drop_counts = list(frames.drops.values())
    message.first_stamp = to_time(status.first_stamp_ns)
    message.last_stamp = to_time(status.last_stamp_ns)
    message.frame_height, message.frame_width = status.frame_size or (0, 0)
    message.cache_tokens = status.cache_tokens
    message.cache_bytes = status.cache_bytes
    message.time_jumps_back = status.jumps.back
    message.time_gaps = status.jumps.gaps
    message.evicted_frames = status.evicted.frames
    message.evicted_tokens = status.evicted.tokens
    message.chunks = chunks.count
    message.last_chunk_time = chunks.last
    message.mean_chunk_time = chunks.mean
    message.questions_asked = questions.asked
    message.questions_answered = questions.answered
    message.questions_cancelled = questions.cancelled
    message.questions_refused = questions.refused
    message.questions_timed_out = questions.timed_out
    message.questions_active = questions.active
    message.refuse_reasons = list(questions.refusals)
    message.refuse_counts = list(questions.refusals.values())
    message.watches = status.watches
    message.last_watch_time = status.watch_times.last
    message.mean_watch_time = status.watch_times.mean
    message.message = wire(status.problem)
    return message
