"""Thousands of mutated image messages through the node's own path: decoder, engine thread, model."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")

from mutated_images import SECOND, START, good, mutant
from sensor_msgs.msg import CompressedImage, Image
from stream_vl_ros.srv import Ask
from traits import EXPECTED, traits

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine.process_memory import status_bytes, trim
from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.messages import to_ns
from stream_vl_ros.ros.parameters import checked
from stream_vl_ros.ros.pictures import picture_of
from stream_vl_ros.ros.session import Session

MIB = 1 << 20
# One good message follows this many mutants, and must be taken each time.
GOOD_EVERY = 20
VALUES = checked(
    {"target_fps": 0.0, "eviction": "window", "budget_tokens": 600, "flush_after": 3600.0, "chunk_frames": 8}
)


@pytest.fixture
def session(embedded):
    it = Session(embedded, VALUES)
    yield it
    it.close(10.0)


class Expected:
    """What must become of each message, told by its stamp and by its decoder alone."""

    def __init__(self) -> None:
        self.taken = 0
        self.dropped: Counter[str] = Counter()
        self._first = self._newest = 0

    def take(self, message: Image | CompressedImage, done: object) -> None:
        reason = self._reason(message, done)
        if reason:
            self.dropped[reason] += 1
            return
        self.taken += 1
        stamp = to_ns(message.header.stamp)
        if stamp <= self._newest or stamp - self._newest > 60 * SECOND:
            self._first = stamp
        self._newest = stamp

    def _reason(self, message: Image | CompressedImage, done: object) -> str:
        stamp = message.header.stamp
        if stamp.sec < 0 or stamp.nanosec >= SECOND:
            return "bad_stamp"
        begins_anew = to_ns(stamp) <= self._first < self._newest
        if 0 <= self._newest - to_ns(stamp) <= SECOND and not begins_anew:
            return "stamp_backwards"
        try:
            picture = picture_of(message, ImageOptions())
        except FrameError as error:
            refused = error
        else:
            assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == "uint8"
            return ""
        assert refused.reason and len(str(refused)) < 2500, (done, str(refused)[:300])
        return refused.reason


def settled(session, received: int):
    """The status once everything was decided; some frames may wait for their chunk."""
    session.signature().result(60)  # has its turn behind all that came before
    status = session.status()
    known = status.frames_ingested + status.frames_skipped + status.frames_dropped + status.frames_waiting
    assert status.frames_received == known == received, "a frame is in no account, or in two"
    return status


@pytest.mark.timeout(3600)
def test_mutated_messages(session, fuzz_messages, fuzz_seed):
    """Each is taken or dropped for the reason that its decoder gives; memory stays where it is; good ones work."""
    pictures, _ = demo_clip(4.0)
    expected, sent = Expected(), 0
    resident = []
    mutated, tried = 0, Counter()
    for number in range(fuzz_messages):
        item = mutant(fuzz_seed, number, START + sent * SECOND // 2)
        mutated += item.message != item.original
        tried.update(traits(item.message))
        expected.take(item.message, item.done)
        session.push(item.message)
        sent += 1
        if number % GOOD_EVERY == GOOD_EVERY - 1 or number == fuzz_messages - 1:
            message = good(pictures[number // GOOD_EVERY % len(pictures)], START + sent * SECOND // 2)
            taken = expected.taken
            expected.take(message, "good")
            assert expected.taken == taken + 1
            session.push(message)
            sent += 1
            status = settled(session, sent)
            drops = dict(zip(status.drop_reasons, status.drop_counts, strict=True))
            assert drops == expected.dropped, (number, item.done)
            assert status.frames_ingested + status.frames_waiting == expected.taken, (number, item.done, status)
        if number % (fuzz_messages // 10) == 0:
            gc.collect()
            trim()
            resident.append(status_bytes("VmRSS") / MIB)
    assert mutated == fuzz_messages >= 10_000
    assert set(tried) == EXPECTED, tried
    assert len(drops) >= 9, drops
    assert session.alive
    # The first tenths warm up what is cached. After that the allocator's own ups and downs are some 30 MiB: as
    # many for ten thousand messages as for forty thousand.
    assert resident[-1] - min(resident[2:5]) < 48, [round(mib) for mib in resident]
    gc.collect()
    alive = [o for o in gc.get_objects() if type(o) in (Image, CompressedImage, FrameError)]
    assert len(alive) < 50, "messages, or what was said of them, are kept"

    session.reset().result(30)
    pictures, seconds = demo_clip(10.0)
    for picture, second in zip(pictures, seconds, strict=True):
        session.push(good(picture, START + int(second * SECOND)))
    answer = session.ask(Ask.Request(question="What is visible now?")).result(60)
    assert answer.text == "a red circle, a blue square"
