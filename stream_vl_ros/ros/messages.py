"""Engine results to ROS messages. Field by field, no logic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time

from stream_vl_ros.action import AskStream
from stream_vl_ros.engine.answer import Answer, Finish
from stream_vl_ros.engine.units import NANOSECONDS
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


def cut_short(answer: Answer) -> str:
    """Why an answer is not complete; empty if it is."""
    if answer.finish is Finish.TIMEOUT:
        return (
            f"timed out after {answer.total_time:.1f} s with {len(answer.token_ids)} tokens written; "
            "allow more time (timeout, ask_timeout) or fewer tokens (max_new_tokens)"
        )
    return "" if answer.complete else f"the answer was {answer.finish.value}"


def fill_response(response: Ask.Response | AskStream.Result, answer: Answer) -> None:
    """The service's response to an answer, or the action's result, which has the same fields."""
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


def answer_message(
    number: int,
    request: Ask.Request | AskStream.Goal,
    response: Ask.Response | AskStream.Result,
    frame_id: str,
    now: Time,
) -> AnswerMsg:
    """What is published of a request and its response."""
    message = AnswerMsg()
    message.header.stamp = response.last_stamp if response.frames_seen else now
    message.header.frame_id = frame_id
    message.id = number
    message.question = request.question
    message.choices = request.choices
    message.dialogue = request.dialogue
    for name in Ask.Response.get_fields_and_field_types():
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
    message.evicted_frames = status.evicted.frames
    message.evicted_tokens = status.evicted.tokens
    message.chunks = chunks.count
    message.last_chunk_time = chunks.last
    message.mean_chunk_time = chunks.mean
    message.questions_asked = questions.asked
    message.questions_answered = questions.answered
    message.questions_failed = questions.failed
    message.questions_active = questions.active
    message.watches = status.watches
    message.last_watch_time = status.watch_times.last
    message.mean_watch_time = status.watch_times.mean
    message.message = wire(status.problem)
    return message
