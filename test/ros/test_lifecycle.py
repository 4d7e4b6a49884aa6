"""The node's life cycle as a lifecycle manager sees it: over its services, in every state."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState

SECOND = 1_000_000_000
START = 1_700_000_000
MIB = 1024 * 1024


class Manager:
    """A lifecycle manager."""

    def __init__(self, robot) -> None:
        self.robot = robot
        node = robot.node
        self.clients = {
            "change": node.create_client(ChangeState, "/stream_vl/change_state"),
            "state": node.create_client(GetState, "/stream_vl/get_state"),
            "possible": node.create_client(GetAvailableTransitions, "/stream_vl/get_available_transitions"),
        }
        self.events: list[tuple[str, str]] = []
        self.subscription = node.create_subscription(
            TransitionEvent,
            "/stream_vl/transition_event",
            lambda e: self.events.append((e.start_state.label, e.goal_state.label)),
            10,
        )

    def close(self) -> None:
        for client in self.clients.values():
            self.robot.node.destroy_client(client)
        self.robot.node.destroy_subscription(self.subscription)

    def call(self, service: str, request: object, timeout: float = 60.0):
        self.robot.reach(self.clients[service])
        return self.robot.result(self.clients[service].call_async(request), timeout)

    def change(self, transition: int) -> bool:
        return self.call("change", ChangeState.Request(transition=Transition(id=transition))).success

    def state(self) -> str:
        return self.call("state", GetState.Request()).current_state.label

    def status(self, state: str, timeout: float = 60.0):
        self.robot.spin_until(
            lambda: self.robot.statuses and self.robot.statuses[-1].state == state, timeout, f"status says {state}"
        )
        return self.robot.statuses[-1]


CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE


@pytest.fixture
def manager(robot):
    it = Manager(robot)
    yield it
    it.close()


def publish(robot, pictures, begin: int, end: int) -> None:
    for i in range(begin, end):
        robot.publish(pictures[i % len(pictures)], START * SECOND + i * SECOND // 2)


def resident(node) -> float:
    """MiB of memory that a process alone has written to: pages of libraries come and go with other processes."""
    lines = Path(f"/proc/{node.process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


def test_every_state_does_what_it_says(start_node, robot, pictures, manager):
    node = start_node(ready=False, autostart=False)
    assert manager.state() == "unconfigured"
    assert "unconfigured" in manager.status("unconfigured").state
    assert robot.camera.get_subscription_count() == 0
    refused = robot.result(robot.ask("What is it?"))
    assert not refused.success
    assert "not ready: the node is unconfigured" in refused.error and "lifecycle set" in refused.error

    assert manager.change(CONFIGURE)
    assert manager.state() == "inactive"
    manager.status("inactive")
    assert robot.camera.get_subscription_count() == 0, "an inactive node takes no images"
    empty = robot.result(robot.ask("What is it?"))
    assert not empty.success and "not one frame" in empty.error

    assert manager.change(ACTIVATE)
    assert manager.state() == "active"
    robot.wait_ready()
    publish(robot, pictures, 0, 8)
    robot.settled(8)
    seen = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert seen.success and seen.frames_seen == 8

    assert manager.change(DEACTIVATE)
    manager.status("inactive")
    robot.spin_until(lambda: robot.camera.get_subscription_count() == 0, 10, "the subscription is gone")
    publish(robot, pictures, 8, 16)
    robot.spin_for(1.5)
    assert robot.statuses[-1].frames_received == 8, "an inactive node takes no images"
    kept = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert (kept.answer, kept.frames_seen) == (seen.answer, 8), "the memory is kept, and answers"

    assert manager.change(ACTIVATE)
    robot.wait_ready()
    publish(robot, pictures, 16, 24)
    robot.settled(16)
    assert robot.result(robot.ask("What is it?", max_new_tokens=3)).frames_seen == 16, "the memory goes on"
    assert robot.unaccounted(robot.statuses[-1]) == 0

    assert manager.change(DEACTIVATE) and manager.change(CLEANUP)
    assert manager.state() == "unconfigured"
    assert manager.status("unconfigured").cache_tokens == 0
    gone = robot.result(robot.ask("What is it?"))
    assert not gone.success and "not ready" in gone.error

    assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
    robot.wait_ready()
    publish(robot, pictures, 0, 8)
    robot.settled(8)
    again = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert again.answer == seen.answer, "a new life is the old one"

    assert manager.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert manager.state() == "finalized"
    assert manager.events[:3] == [
        ("unconfigured", "configuring"), ("configuring", "inactive"), ("inactive", "activating")
    ]  # fmt: skip
    assert node.stop() == 0
    assert "Traceback" not in node.log


def test_what_the_state_does_not_allow_is_refused_and_changes_nothing(start_node, robot, manager):
    node = start_node()
    for transition in (CONFIGURE, ACTIVATE, CLEANUP, 99, Transition.TRANSITION_CALLBACK_SUCCESS):
        assert not manager.change(transition)
        assert manager.state() == "active"
    unknown = manager.call("change", ChangeState.Request(transition=Transition(label="fly")))
    assert not unknown.success
    assert "the node is active: transition 1 is not possible now; possible are deactivate (4), shutdown (7)" in node.log
    named = manager.call("change", ChangeState.Request(transition=Transition(label="deactivate")))
    assert named.success and manager.state() == "inactive"
    possible = manager.call("possible", GetAvailableTransitions.Request()).available_transitions
    assert {t.transition.label for t in possible} == {"activate", "cleanup", "shutdown"}


def test_the_node_answers_while_it_loads(start_node, robot, manager):
    """Loading takes seconds, off the executor: states, statuses and refusals come meanwhile."""
    start_node(ready=False, autostart=False, fresh=True)
    manager.status("unconfigured")
    loading = manager.clients["change"].call_async(ChangeState.Request(transition=Transition(id=CONFIGURE)))
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "loading", 20, "loading begins")
    assert manager.state() == "configuring"
    assert not manager.change(CONFIGURE) and not manager.change(ACTIVATE)
    # Those that end a transition are the node's own business.
    assert not any(manager.change(inner) for inner in (10, 20, 30, 60))
    refused = robot.result(robot.ask("What is it?"))
    assert not refused.success and "not ready: loading 'random' for" in refused.error and "step " in refused.error
    assert not loading.done(), "all that came while it was loading"
    messages = set()
    while not loading.done():
        robot.spin_for(0.1)
        messages.add(robot.statuses[-1].message)
    assert any("step 1 of 3, importing" in m for m in messages), messages
    assert loading.result().success
    assert manager.state() == "inactive"


def test_a_model_that_cannot_be_loaded_leaves_the_node_unconfigured_and_can_be_mended(
    start_node, robot, manager, pictures
):
    from rclpy.parameter import Parameter
    from rclpy.parameter_client import AsyncParameterClient

    node = start_node(ready=False, model="/no/such/folder")
    assert "/no/such/folder" in manager.status("error").message
    assert manager.state() == "unconfigured"
    parameters = AsyncParameterClient(robot.node, "/stream_vl")
    robot.spin_until(parameters.services_are_ready, 20, "parameters can be set")
    (result,) = robot.result(parameters.set_parameters([Parameter("model", value="random")])).results
    assert result.successful, result.reason
    assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
    robot.wait_ready()
    assert not robot.statuses[-1].message
    publish(robot, pictures, 0, 4)
    robot.settled(4)
    assert robot.result(robot.ask("What is it?", max_new_tokens=3)).success
    assert node.stop() == 0


def test_cleaning_up_frees_the_memory_round_after_round(start_node, robot, manager):
    """The KV cache, named memories included, and the model are gone after every cleanup; rounds do not add up."""
    from stream_vl_ros.srv import Memory

    large = np.random.default_rng(5).integers(0, 256, (16, 448, 448, 3), dtype=np.uint8)
    node = start_node(model="embedded", chunk_frames=8, max_pixels=250_000)
    snapshot = robot.node.create_client(Memory, "/stream_vl/snapshot")
    held, freed, caches = [], [], []
    for _ in range(4):
        robot.wait_ready()
        for first in (0, 16, 32):
            for i, picture in enumerate(large):
                robot.publish(picture, (START + first + i) * SECOND)
            robot.settled(first + 16, timeout=60)
        status = robot.settled(48, timeout=60)
        assert status.frames_ingested == 48
        assert robot.result(snapshot.call_async(Memory.Request(name="all of it"))).success
        caches.append(status.cache_bytes / MIB)
        held.append(resident(node))
        assert manager.change(DEACTIVATE) and manager.change(CLEANUP)
        freed.append(resident(node))
        robot.statuses.clear()
        assert manager.change(CONFIGURE) and manager.change(ACTIVATE)
    robot.node.destroy_client(snapshot)
    numbers = f"MiB held {held}, after cleanup {freed}, caches {caches}"
    assert min(caches) > 40, numbers
    for h, f, cache in zip(held, freed, caches, strict=True):
        assert h - f > 0.9 * cache, numbers
    # One cache or one model that stayed each round would show three times by now.
    assert freed[3] - freed[0] < min(caches), numbers


@pytest.mark.parametrize(
    ("state", "sent"),
    [(state, signal.SIGINT) for state in ("unconfigured", "loading", "inactive", "active", "answering")]
    + [("loading", signal.SIGTERM), ("active", signal.SIGTERM)],
)
def test_ctrl_c_ends_the_node_within_two_seconds(start_node, robot, manager, state, sent, pictures, endless_checkpoint):
    autostart = state in ("loading", "active", "answering")
    node = start_node(ready=False, autostart=autostart, model=endless_checkpoint, fresh=state == "loading")
    if state == "inactive":
        manager.status("unconfigured")
        assert manager.change(CONFIGURE)
    manager.status("active" if state == "answering" else state)
    if state == "answering":
        robot.wait_ready()
        publish(robot, pictures, 0, 8)
        robot.settled(8)
        robot.ask("What is it?", max_new_tokens=100_000)
        robot.spin_until(
            lambda: robot.statuses and robot.statuses[-1].questions_active == 1, 20, "the answer is being written"
        )
    began = time.monotonic()
    node.process.send_signal(sent)
    code = node.process.wait(10)
    seconds = time.monotonic() - began
    assert code == 0, node.log
    assert "Traceback" not in node.log
    assert seconds < 2.0, f"{seconds:.2f} s\n{node.log}"


def test_ctrl_c_does_not_wait_for_a_chunk_that_takes_long(start_node, robot):
    """The engine is in the middle of a chunk that takes many seconds: it is left there."""
    large = np.random.default_rng(6).integers(0, 256, (4, 560, 560, 3), dtype=np.uint8)
    node = start_node(model="embedded", chunk_frames=120, max_pixels=320_000, flush_after=60.0)
    for i in range(120):
        robot.publish(large[i % 4], (START + i) * SECOND)
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].frames_received == 120, 60, "all frames are here")
    robot.spin_for(1.0)
    assert robot.statuses[-1].frames_ingested == 0, "they are being encoded"
    began = time.monotonic()
    assert node.stop() == 0
    seconds = time.monotonic() - began
    assert seconds < 2.0 and "Traceback" not in node.log, f"{seconds:.2f} s\n{node.log}"


def test_states_have_the_standard_numbers(start_node, robot, manager):
    start_node()
    state = manager.call("state", GetState.Request()).current_state
    assert (state.id, state.label) == (State.PRIMARY_STATE_ACTIVE, "active")
