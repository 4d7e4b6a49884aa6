"""Memories on disk, over real DDS: a node saves, ends, and another one goes on."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from stream_vl_ros.srv import Memory

SECOND = 1_000_000_000
START = 1_700_000_000
QUESTION = "What is it?"


@pytest.fixture
def memory(robot):
    """`memory("save_memory", "kitchen")` calls one of the services; `send` gives a future."""
    clients = {
        n: robot.node.create_client(Memory, f"/stream_vl/{n}") for n in ("save_memory", "load_memory", "restore")
    }

    def send(service: str, name: str, stream: str = ""):
        robot.reach(clients[service])
        return clients[service].call_async(Memory.Request(name=name, stream=stream))

    def call(service: str, name: str, stream: str = "") -> Memory.Response:
        return robot.result(send(service, name, stream))

    call.send = send
    yield call
    for client in clients.values():
        robot.node.destroy_client(client)


@pytest.fixture
def publish(robot, pictures) -> Callable[..., None]:
    def some(begin: int, end: int, at: float = 0.0) -> None:
        for i in range(begin, end):
            robot.publish(pictures[i % 64], START * SECOND + int(at * SECOND) + i * SECOND // 2)

    return some


@pytest.fixture
def signature(robot) -> Callable[[], str]:
    """`signature()` is the checksum of the cache once two statuses in a row agree on it: it is told a second late."""

    def settled() -> str:
        robot.statuses.clear()
        robot.spin_until(
            lambda: (
                len(robot.statuses) > 2 and robot.statuses[-1].cache_signature == robot.statuses[-2].cache_signature
            ),
            20,
            "the signature stays",
        )
        assert robot.statuses[-1].cache_signature
        return robot.statuses[-1].cache_signature

    return settled


def answers(robot) -> list[tuple]:
    """All that a node says of two questions."""
    futures = [robot.ask(QUESTION, max_new_tokens=16), robot.ask(QUESTION, choices=["a", "b"])]
    return [told(robot.result(future)) for future in futures]


def told(answer) -> tuple:
    stamps = [(s.sec, s.nanosec) for s in (answer.first_stamp, answer.last_stamp)]
    return answer.success, answer.answer, answer.frames_seen, answer.cache_tokens, stamps, list(answer.scores)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"eviction": "importance", "budget_tokens": 160}], ids=["all", "importance"])
def test_a_node_that_is_killed_is_followed_by_one_that_knows_all(
    start_node, robot, publish, memory, signature, tmp_path, settings
):
    settings = {"memory_folder": tmp_path / "memories", "flush_after": 30.0, "publish_signature": True, **settings}
    first = start_node(**settings)
    publish(0, 43)
    robot.settled(43, waiting=3)
    robot.result(robot.ask("Remember this.", remember=True, max_new_tokens=16))
    publish(43, 66)
    robot.settled(66, waiting=3)
    before, cache = answers(robot), signature()
    saved = memory("save_memory", "kitchen")
    assert saved.success, saved.error
    assert (list(saved.streams), list(saved.names), list(saved.tokens)) == ([""], ["kitchen"], [before[0][3]])
    # What the first node answers after more video...
    publish(66, 81)
    robot.settled(81, waiting=3)
    later = answers(robot)
    assert signature() != cache and later != before
    first.process.kill()
    first.process.wait(10)

    start_node(fresh=True, **settings)
    loaded = memory("load_memory", "kitchen")
    assert loaded.success, loaded.error
    assert list(loaded.tokens) == list(saved.tokens)
    assert (answers(robot), signature()) == (before, cache)
    # ...is what the second one answers. The frames that waited are received once more.
    waiting = robot.statuses[-1].frames_waiting
    publish(66, 81)
    robot.settled(waiting + 15, waiting=3)
    assert answers(robot) == later
    assert robot.unaccounted(robot.statuses[-1]) == 0


def test_saving_and_loading_while_frames_arrive(start_node, robot, publish, memory, tmp_path):
    node = start_node(memory_folder=tmp_path / "memories")
    early = memory("save_memory", "kitchen")
    assert not early.success and "no video yet" in early.error
    publish(0, 16)
    robot.settled(16)
    first = robot.result(robot.ask(QUESTION, max_new_tokens=8))
    assert memory("save_memory", "first").success
    futures = []
    for i in range(16, 56, 4):
        publish(i, i + 4)
        futures.append(memory.send("save_memory", f"at {i}"))
    for future in futures:
        assert robot.result(future).success, future.result().error
    robot.settled(56)
    kept = {p.name for p in (tmp_path / "memories").iterdir()}
    assert kept == {"first", *(f"at {i}" for i in range(16, 56, 4))}
    seen = []
    for i in range(16, 56, 4):
        said = json.loads((tmp_path / "memories" / f"at {i}" / "memory.json").read_text())["memory"]
        seen.append(said["state"]["frames"] + len(said["waiting"]))
    # DDS keeps no order between topics, so a request may be delivered before the images that were sent before it.
    assert seen[0] >= 16 and seen == sorted(seen) and seen[-1] <= 56, seen

    publish(56, 60)
    loading = memory.send("load_memory", "first")
    publish(60, 64)
    assert robot.result(loading).success
    # How many came before the memory was loaded is not known, so one may be left that waits for another to be a pair.
    status = robot.settled(64, waiting=1)
    assert robot.unaccounted(status) == 0
    # Any stamp may follow, also one from before all of them.
    assert memory("load_memory", "first").success
    publish(0, 4, at=-1000.0)
    robot.settled(68)
    answer = robot.result(robot.ask(QUESTION, max_new_tokens=8))
    assert answer.success and answer.first_stamp == first.first_stamp
    assert answer.last_stamp.sec == START - 1000 + 1
    assert "jumped" not in node.log


@pytest.mark.parametrize("loading", [False, True], ids=["save", "load"])
def test_names_never_lead_out_of_the_folder(start_node, robot, publish, memory, tmp_path, loading):
    folder = tmp_path / "inside" / "memories"
    start_node(memory_folder=folder)
    publish(0, 8)
    robot.settled(8)
    assert memory("save_memory", "kitchen").success
    # A whole memory next to the folder, and one that a link leads to.
    outside = tmp_path / "inside" / "outside"
    (folder / "kitchen").rename(outside)
    (folder / "link").symlink_to(outside)
    (folder / "file").write_text("")
    before = sorted(str(p) for p in tmp_path.rglob("*") if not p.name.endswith(".log"))
    wrong = ["", " ", ".", "..", "../outside", "a/b", "/", str(outside), f"../../{tmp_path.name}/x", ".hidden", "a\\b"]
    wrong += ["a\nb", "a\x1b[31mb", "x" * 129, "ä" * 65, " kitchen", "kitchen ", "\u202egnp", "link", "file"]
    for name in wrong:
        answer = memory("load_memory" if loading else "save_memory", name)
        assert not answer.success, name
        assert "plain name" in answer.error or "symbolic link" in answer.error, answer.error
    after = sorted(str(p) for p in tmp_path.rglob("*") if not p.name.endswith(".log"))
    assert after == before
    for name in ("x" * 128, "ä" * 64, "café 2", "a.b", "k..", "'", "*"):
        assert memory("save_memory", name).success, name
        assert memory("load_memory", name).success, name


def test_what_cannot_be_loaded_is_refused_with_the_reason(start_node, robot, publish, memory, signature, tmp_path):
    folder = tmp_path / "memories"
    node = start_node(memory_folder=folder, publish_signature=True)
    publish(0, 8)
    robot.settled(8)
    assert memory("save_memory", "kitchen").success
    assert memory("save_memory", "cellar").success
    publish(8, 12)
    robot.settled(12)
    before = signature()

    missing = memory("load_memory", "hall")
    assert not missing.success and "no such saved memory" in missing.error
    assert "'cellar', 'kitchen'" in missing.error
    (tensors,) = (folder / "cellar").glob("*.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1000] ^= 4
    tensors.write_bytes(data)
    damaged = memory("load_memory", "cellar")
    assert not damaged.success and "checksum" in damaged.error
    assert "no memory of that name" in memory("restore", "kitchen").error, "on disk is not in the node"
    assert signature() == before
    node.stop()

    start_node(memory_folder=folder, model="embedded")
    other = memory("load_memory", "kitchen")
    assert not other.success and "another configuration: load that model" in other.error


def test_a_folder_that_cannot_be_made_is_told(start_node, robot, publish, memory, tmp_path):
    (tmp_path / "file").write_text("")
    start_node(memory_folder=tmp_path / "file" / "memories")
    publish(0, 8)
    robot.settled(8)
    answer = memory("save_memory", "kitchen")
    assert not answer.success and "Not a directory; check the folder" in answer.error
    assert robot.result(robot.ask(QUESTION, max_new_tokens=2)).success


def test_a_disk_that_fills_up_is_told_and_the_node_goes_on(start_node, robot, publish, memory, tmp_path):
    """The kernel lets the running node write no file larger than what its next memory takes."""
    node = start_node(memory_folder=tmp_path / "memories")
    publish(0, 16)
    robot.settled(16)
    assert memory("save_memory", "kitchen").success
    first = answers(robot)
    publish(16, 40)
    robot.settled(40)
    there = {p: p.read_bytes() for p in (tmp_path / "memories").rglob("*") if p.is_file()}
    before = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
    assert len(node.log) < 100_000 < max(map(len, there.values()))
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (100_000, before[1]))
    for name in ("kitchen", "hall"):
        full = memory("save_memory", name)
        assert not full.success and "File too large" in full.error and "free some space" in full.error
    assert {p: p.read_bytes() for p in (tmp_path / "memories").rglob("*") if p.is_file()} == there
    assert not (tmp_path / "memories" / "hall").exists()
    publish(40, 44)
    robot.settled(44)
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, before)
    assert memory("load_memory", "kitchen").success
    assert answers(robot) == first
    assert memory("save_memory", "hall").success
    assert robot.unaccounted(robot.statuses[-1]) == 0


def test_without_a_parameter_it_is_the_ros_home(start_node, robot, publish, memory, tmp_path, ros_env, monkeypatch):
    ros_env["ROS_HOME"] = str(tmp_path / "ros_home")
    start_node()
    publish(0, 8)
    robot.settled(8)
    assert memory("save_memory", "kitchen").success
    assert (tmp_path / "ros_home" / "stream_vl_memories" / "kitchen" / "memory.json").is_file()
    monkeypatch.delenv("ROS_HOME", raising=False)
    from stream_vl_ros.ros.memory_folder import memory_folder

    assert memory_folder({"memory_folder": ""}, "") == Path.home() / ".ros" / "stream_vl_memories"
    assert memory_folder({"memory_folder": "~/videos"}, "front") == Path.home() / "videos" / "front"


def test_several_streams_have_a_memory_each(start_node, robot, memory, tmp_path, pictures):
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image

    parameters = tmp_path / "two.yaml"
    parameters.write_text(
        f"/**:\n  ros__parameters:\n    streams: [front, rear]\n    memory_folder: {tmp_path / 'memories'}\n"
        "    stream:\n      front: {image_topic: /test/front}\n      rear: {image_topic: /test/rear}\n"
    )
    cameras = [robot.node.create_publisher(Image, f"/test/{name}", QoSProfile(depth=100)) for name in ("front", "rear")]
    try:
        start_node(ready=False, file=parameters)
        for camera in cameras:
            robot.spin_until(lambda c=camera: c.get_subscription_count() > 0, 60, "the cameras are matched")

        def publish(begin: int, end: int) -> None:
            for number, camera in enumerate(cameras):
                for i in range(begin, end):
                    pixels = pictures[i if number else 63 - i]
                    message = Image(height=60, width=80, encoding="rgb8", step=240, data=pixels.tobytes())
                    message.header.stamp.sec, message.header.stamp.nanosec = START + i // 2, i % 2 * SECOND // 2
                    camera.publish(message)

        def ask() -> list[str]:
            answer = robot.result(robot.ask(QUESTION, stream="all", max_new_tokens=12))
            assert answer.success, answer.error
            return list(answer.answers)

        def seen(count: int) -> None:
            robot.spin_until(
                lambda: (
                    robot.result(robot.ask(QUESTION, stream="rear", max_new_tokens=1)).frames_seen == count
                    and robot.result(robot.ask(QUESTION, stream="front", max_new_tokens=1)).frames_seen == count
                ),
                30,
                f"{count} frames each",
            )

        publish(0, 8)
        seen(8)
        before = ask()
        unnamed = memory("save_memory", "kitchen")
        assert not unnamed.success and "name one of 'front', 'rear', or 'all'" in unnamed.error
        saved = memory("save_memory", "kitchen", "all")
        assert saved.success and list(saved.streams) == ["front", "rear"] and list(saved.names) == ["kitchen"] * 2
        assert memory("save_memory", "hall", "rear").success
        assert sorted(
            p.parent.relative_to(tmp_path / "memories").as_posix() for p in tmp_path.rglob("memory.json")
        ) == [
            "front/kitchen",
            "rear/hall",
            "rear/kitchen",
        ]
        publish(8, 16)
        seen(16)
        later = ask()
        partly = memory("load_memory", "hall", "all")
        assert not partly.success and partly.error.startswith("front: ") and list(partly.streams) == ["rear"]
        assert ask() == [later[0], before[1]]
        assert memory("load_memory", "kitchen", "front").success
        assert ask() == before
    finally:
        for camera in cameras:
            robot.node.destroy_publisher(camera)
