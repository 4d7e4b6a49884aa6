"""The processes of a load: the node, its cameras, and processes of clients."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_vl_ros.bench.load_account import Account, broken_sums
from stream_vl_ros.demo.processes import Child, Event, end_all

STREAMS = ("front", "rear", "left", "right")

READY_TIMEOUT = 120.0


class Run:
    """Node, cameras and clients. `close` always."""

    def __init__(
        self, node: Sequence[str], parameters: Mapping[str, object], clients: int, processes: int, fps: float,
        env: Mapping[str, str], logs: Path, account: Account,
    ) -> None:  # fmt: skip
        """Start all processes.

        Args:
            node: command that starts the node.
            parameters: of the node.
            clients, processes: how many of each.
            fps: of the cameras.
            env: environment of the processes.
            logs: folder for their logs.
            account: what takes down what comes of it.
        """
        self._account = account
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._seen: list[Event] = []
        self._broken: list[str] = []
        self._children: list[Child] = []
        self._env, self._logs = env, logs
        settings = [a for name, value in parameters.items() for a in ("-p", f"{name}:={value}")]
        self._node = self._start("node", [*node, "--ros-args", *settings], talks=False)
        module = [sys.executable, "-m"]
        self._cameras = self._start("cameras", [*module, "stream_vl_ros.bench.load_cameras", str(fps), *STREAMS])
        shares = [clients * (i + 1) // processes - clients * i // processes for i in range(processes)]
        firsts = [sum(shares[:i]) for i in range(processes)]
        self._clients = [
            self._start(f"clients-{i}", [*module, "stream_vl_ros.bench.load_client", str(first), str(share), *STREAMS])
            for i, (first, share) in enumerate(zip(firsts, shares, strict=True))
        ]

    def close(self) -> None:
        """End all processes."""
        end_all(self._children)

    @property
    def broken(self) -> list[str]:
        """Sums that did not hold in some status on the way, in words."""
        return self._broken

    def wait_ready(self, frames: int) -> None:
        """Wait until the node is active, so many frames are in every memory, and every client sees the node."""
        self._until(
            lambda: (
                self._count("ready") == len(self._clients)
                and len(self._account.statuses) == len(STREAMS)
                and all(s["state"] == "active" for s in self._account.statuses.values())
                and all(s["frames_ingested"] >= frames for s in self._account.statuses.values())
            ),
            READY_TIMEOUT,
            "everything is ready",
        )

    def round(self, seconds: float) -> None:
        """Have all clients ask for so long, and wait until nothing is being answered any more."""
        self._seen.clear()
        for client in self._clients:
            client.send(seconds=seconds)
        self._until(
            lambda: self._count("round") == len(self._clients),
            seconds + 2 * self._account.call_timeout,
            "the clients are done",
        )
        self._account.take([event for event in self._seen if event["event"] == "round"])
        self._account.statuses.clear()
        self._until(
            lambda: (
                len(self._account.statuses) == len(STREAMS)
                and not any(s["questions_active"] for s in self._account.statuses.values())
            ),
            30,
            "no question is active",
        )

    def end_of_video(self) -> None:
        """Stop the cameras, and wait until every frame has found its place."""
        self._cameras.send(stop=True)
        self._until(lambda: self._count("published") == 1, 30, "the cameras are done")
        (published,) = [event for event in self._seen if event["event"] == "published"]
        self._account.published = dict(zip(STREAMS, published["counts"], strict=True))
        self._account.statuses.clear()
        # An odd frame waits for its partner.
        self._until(
            lambda: (
                len(self._account.statuses) == len(STREAMS)
                and all(s["frames_waiting"] <= 1 for s in self._account.statuses.values())
                and all(self._account.statuses[n]["frames_received"] >= self._account.published[n] for n in STREAMS)
            ),
            30,
            "every frame is in its place",
        )

    def memory(self) -> tuple[int, float]:
        """Bytes of all caches, and MiB that the node's process alone has written to."""
        lines = Path(f"/proc/{self._node.pid}/smaps_rollup").read_text().splitlines()
        kib = sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))
        return sum(int(s["cache_bytes"]) for s in self._account.statuses.values()), kib / 1024

    def _start(self, name: str, command: Sequence[str], *, talks: bool = True) -> Child:
        child = Child(
            name, command, env=self._env, log=self._logs / f"{name}.log", events=self._events if talks else None
        )
        self._children.append(child)
        return child

    def _count(self, event: str) -> int:
        return sum(seen["event"] == event for seen in self._seen)

    def _until(self, there: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not there():
            for child in self._children:
                if child.exit_code is not None:
                    raise RuntimeError(f"the {child.name} ended before {what}:\n{child.tail()}")
            if time.monotonic() > end:
                raise RuntimeError(f"not within {seconds:.0f} s: {what}; the node's log ends with\n{self._node.tail()}")
            self._take()

    def _take(self) -> None:
        try:
            event: dict[str, Any] = self._events.get(timeout=0.2)
        except queue.Empty:
            return
        if event["event"] != "status":
            self._seen.append(event)
            return
        self._account.statuses[event["stream"]] = event
        self._broken += broken_sums(event["stream"], event)
