"""Threads that share a model, without one: time is slept."""

from __future__ import annotations

import threading
import time

import pytest

from stream_vl_ros.engine.sharing import Share, Sharing

pytestmark = pytest.mark.alone


class Worker(threading.Thread):
    """Uses the model in pieces until told to stop; keeps what it did."""

    def __init__(self, share: Share, piece: float, log: list[tuple[str, float]], name: str) -> None:
        super().__init__(daemon=True, name=name)
        self.share, self.piece, self.log = share, piece, log
        self.stop = threading.Event()
        self.worked = 0.0
        self.inside = 0

    def run(self) -> None:
        while not self.stop.is_set():
            with self.share:
                for _ in range(3):
                    started = time.perf_counter()
                    time.sleep(self.piece)
                    self.worked += time.perf_counter() - started
                    self.log.append((self.name, started))
                    self.share.offer()


def run(workers: list[Worker], seconds: float) -> None:
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    for worker in workers:
        worker.stop.set()
    for worker in workers:
        worker.join(5)
        assert not worker.is_alive()


@pytest.mark.parametrize("pieces", [(0.02, 0.02), (0.04, 0.002), (0.03, 0.01, 0.002)])
def test_each_gets_the_same_time_whatever_its_pieces_are(pieces):
    sharing, log = Sharing(), []
    workers = [Worker(sharing.member(), piece, log, str(i)) for i, piece in enumerate(pieces)]
    run(workers, 2.0)
    total = sum(w.worked for w in workers)
    for worker in workers:
        assert worker.worked / total == pytest.approx(1 / len(pieces), rel=0.25)


def test_only_one_at_a_time():
    sharing = Sharing()
    inside, most = 0, 0
    lock = threading.Lock()

    def work(share: Share) -> None:
        nonlocal inside, most
        for _ in range(200):
            with share:
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(sharing.member(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1


def test_idling_saves_nothing_up():
    """One that comes back after a long pause shares from then on; it does not take the model for itself first."""
    sharing, log = Sharing(), []
    busy, late = (Worker(sharing.member(), 0.005, log, name) for name in ("busy", "late"))
    busy.start()
    time.sleep(1.0)
    before = busy.worked
    run([late], 0.6)
    busy.stop.set()
    busy.join(5)
    assert busy.worked - before > 0.2


def test_an_exception_gives_the_turn_back():
    sharing = Sharing()
    with pytest.raises(RuntimeError, match="on purpose"), sharing.member():
        raise RuntimeError("on purpose")
    with sharing.member():
        pass
