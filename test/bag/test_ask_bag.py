"""Questions about recordings, straight through the engine: right answers, exact ones, and what can go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from stream_vl_ros.bag.ask_bag import main
from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.bag.writer import ImageBagWriter
from stream_vl_ros.demo.main import BAG as DEMO
from stream_vl_ros.demo.questions import DEMO_BAG
from stream_vl_ros.engine import LoadedModel, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.question import Question, Turn

ORIGIN = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
MakeBag = Callable[..., Path]
CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("embedded", device="cpu")


@pytest.fixture(scope="module")
def frames() -> list[tuple[int, np.ndarray]]:
    """Stamps and pictures of the demo bag."""
    with BagReader(DEMO) as bag:
        topic = bag.image_topic()
        images = [(m.stamp, bag.decode(topic, m)) for m in bag.messages(topic)]
    return [(stamp, i.data.reshape(i.height, i.width, 3)) for stamp, i in images]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def demo_sqlite3(frames: list[tuple[int, np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo_sqlite3"
    with ImageBagWriter(path, storage="sqlite3", encoding="bgr8") as writer:
        for stamp, pixels in frames:
            writer.write(np.ascontiguousarray(pixels[:, :, ::-1]), stamp)
    return path


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`ask(bag, "-q", "What?")` is the exit status, the JSON document, and what was said on stderr."""

    def run(bag: Path, *words: object, status: int = 0) -> tuple[dict[str, Any], str]:
        file = tmp_path / "answers.json"
        code = main([str(bag), *map(str, words), *CPU, "--json", str(file)])
        said = capsys.readouterr().err
        assert code == status, said
        return (json.loads(file.read_text()) if file.exists() else {}), said

    return run


def balanced(document: dict[str, Any]) -> bool:
    f = document["frames"]
    total = f["ingested"] + f["skipped"] + f["dropped"] + f["waiting"]
    return f["read"] == f["received"] == total and f["dropped"] == sum(f["drops"].values())


def watched(
    model: LoadedModel, frames: list[tuple[int, np.ndarray]], until: float, config: StreamConfig | None = None
) -> VideoStream:
    """A stream that was given the frames up to a moment, one by one."""
    stream = VideoStream(model, config)
    for stamp, pixels in frames:
        if stamp <= frames[0][0] + round(until * SECOND):
            stream.offer(pixels, stamp)
            stream.encode_chunk()
    return stream


# --- answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_right_answers_at_their_moments(ask: Callable[..., Any], demo_sqlite3: Path, storage: str) -> None:
    words: list[object] = []
    for question in DEMO_BAG:
        words += ["-q", question.text, "--at", question.at]
        if question.choices:
            words += ["--choices", ",".join(question.choices)]
    document, said = ask(DEMO if storage == "mcap" else demo_sqlite3, *words)
    found = document["questions"]
    assert [q["answer"] for q in found] == [question.expected for question in DEMO_BAG]
    assert [(q["number"], q["at"]) for q in found] == [(i, q.at) for i, q in enumerate(DEMO_BAG, 1)]
    assert all(q["success"] and not q["error"] and not q["note"] for q in found)
    for question in found:
        assert question["first_stamp"] == ORIGIN
        # Two frames a second of four are kept: the last one seen is that of the half second before.
        assert question["seen_until"] == np.floor(2 * question["at"]) / 2
        assert question["frames_seen"] == 2 * question["seen_until"] + 1
        assert len(question["scores"]) == len(question["choices"])
        assert 0 < question["ttft"] <= question["total_time"]
        assert f"{question['at']:.2f} s: {question['question']} {question['answer']!r}" in said
    # Nothing is read behind the last question.
    assert document["frames"] == {
        "read": 93, "received": 93, "ingested": 46, "skipped": 46, "dropped": 0, "waiting": 1, "drops": {},
        "time_jumps_back": 0, "time_gaps": 0,
    }  # fmt: skip


@pytest.mark.parametrize("config", [StreamConfig(), StreamConfig(chunk_frames=3, target_fps=3.0)])
def test_token_by_token_as_the_stream_says_frame_by_frame(
    ask: Callable[..., Any], model: LoadedModel, frames: list[tuple[int, np.ndarray]], config: StreamConfig
) -> None:
    moments = [0.0, 0.24, 0.25, 3.1, 9.5, 16.99, 20.0, 23.75]
    for words in (["What happened so far?"], ["What disappeared last?", "--choices", "a red circle,nothing"]):
        at = [word for moment in moments for word in ("--at", moment)]
        options = ["--chunk-frames", config.chunk_frames, "--target-fps", config.target_fps]
        document, _ = ask(DEMO, "-q", *words, *at, *options)
        assert balanced(document)
        for moment, found in zip(moments, document["questions"], strict=True):
            choices = tuple(words[2].split(",")) if len(words) > 1 else ()
            native = watched(model, frames, moment, config).ask(words[0], choices)
            assert (found["answer"], found["token_ids"]) == (native.text, list(native.token_ids))
            assert found["scores"] == pytest.approx(native.scores, abs=1e-4)
            assert found["frames_seen"] == native.moment.frames
            assert (found["first_stamp"], found["last_stamp"]) == (
                native.moment.first_stamp_ns,
                native.moment.last_stamp_ns,
            )


def test_a_frame_is_seen_from_its_stamp_on(ask: Callable[..., Any], make_bag: MakeBag) -> None:
    # 20 Hz. They are recorded 7 ms after their stamps, which must not count.
    moments = [0, 0.049, 0.05, 0.056, 0.1, 0.95]
    at = [word for moment in moments for word in ("--at", moment)]
    document, _ = ask(make_bag("mcap", 20), "-q", "What?", *at, "--target-fps", 0, "--max-new-tokens", 1)
    assert [q["frames_seen"] for q in document["questions"]] == [1, 1, 2, 2, 3, 20]
    assert [q["last_stamp"] - ORIGIN for q in document["questions"]] == [
        0, 0, 50_000_000, 50_000_000, 100_000_000, 950_000_000,
    ]  # fmt: skip
    assert {len(q["token_ids"]) for q in document["questions"]} == {1}
    assert {q["finish"] for q in document["questions"]} == {"length"}


def test_questions_in_any_order_and_several_at_once(ask: Callable[..., Any]) -> None:
    words = ["-q", "What appeared first?", "-q", "How many objects are there?", "-q", "What is visible now?"]
    document, _ = ask(DEMO, *words, "--at", "end", "--at", 9.5, "--at", 9.5)
    found = [(q["number"], q["at"], q["answer"]) for q in document["questions"]]
    assert found[0] == (2, 9.5, "2") and found[1][:2] == (3, 9.5) and found[2] == (1, None, "a red circle")
    assert document["frames"]["read"] == 96 and balanced(document)


def test_a_dialogue_follows_its_turns(
    ask: Callable[..., Any], model: LoadedModel, frames: list[tuple[int, np.ndarray]]
) -> None:
    first, second, choices = "What is visible now?", "Where is it?", ("top left", "bottom left")
    words = ["-q", first, "--at", 5, "-q", second, "--at", 7, "--choices", ",".join(choices)]
    document, _ = ask(DEMO, *words, "--dialogue")
    answer = watched(model, frames, 5).ask(first)
    assert document["questions"][0]["token_ids"] == list(answer.token_ids)
    stream = watched(model, frames, 7)
    native = stream.ask(Question(second, choices, history=(Turn(first, answer.text),)))
    assert document["questions"][1]["scores"] == pytest.approx(native.scores, abs=1e-4)
    # And it matters: alone it is another question.
    document, _ = ask(DEMO, *words)
    alone = stream.ask(second, choices)
    assert document["questions"][1]["scores"] == pytest.approx(alone.scores, abs=1e-4)
    assert alone.scores != pytest.approx(native.scores, abs=1e-2)


def test_a_question_behind_the_end_is_asked_there_and_says_so(ask: Callable[..., Any]) -> None:
    document, _ = ask(DEMO, "-q", "What appeared first?", "--at", 23.75, "--at", 99)
    last, beyond = document["questions"]
    assert beyond["answer"] == last["answer"] == "a red circle" and beyond["frames_seen"] == last["frames_seen"]
    assert not last["note"]
    assert beyond["note"] == "asked at 99 s, but the recording ends at 23.75 s: asked there"


def test_parameters_of_the_node_count(ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("/**:\n  ros__parameters:\n    eviction: window\n    target_fps: 4.0\n")
    words = ["-q", "What is visible now?", "--params-file", tmp_path / "my.yaml", "-p", "budget_tokens:=200"]
    document, said = ask(DEMO, *words, "-p", "queue_frames:=3")
    assert document["settings"]["eviction"] == "window" and document["settings"]["target_fps"] == 4.0
    assert document["memory"]["evicted_tokens"] > 0 and document["memory"]["cache_tokens"] <= 200
    assert document["frames"]["ingested"] == 96 and balanced(document)
    assert "queue_frames makes no difference to a recording" in said


# --- what is printed ----------------------------------------------------------------------------------------


def test_table_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [str(DEMO), "-q", "What is visible now?", "--at", "3", *CPU]
    assert main([*words, "--json", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"3\.00 s +What is visible now\? +a red circle +\d+ ms +\d+ ms +7 +47 ", out)
    assert "13 of 96 images read = 6 ingested + 6 skipped + 0 dropped + 1 waiting for its partner" in out
    assert "MiB of KV cache" in out and "\x1b" not in out
    for place in (["--json"], ["--json", "-"]):
        assert main([*words, *place]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["questions"][0]["answer"] == "a red circle"
    assert json.loads((tmp_path / "out.json").read_text()).keys() == document.keys()
    assert document["environment"]["versions"].keys() >= {"torch", "transformers", "stream_vl_ros"}
    assert document["environment"]["command"].startswith("ask_bag ")
    assert document["environment"]["dtype"] == "float32"
    assert document["settings"]["model"] == "embedded" and document["settings"]["target_fps"] == 2.0
    assert document["bag"] == {
        "path": str(DEMO), "topic": document["bag"]["topic"], "images": 96, "seconds": 23.75, "first_stamp": ORIGIN,
    }  # fmt: skip


def test_scores_are_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DEMO), "-q", "How many objects are there?", "--choices", "1,2", "--at", "9.5", *CPU]) == 0
    assert re.search(r" 1 -\d+\.\d\d .* 2 -\d+\.\d\d ", capsys.readouterr().out, re.DOTALL)


# --- what goes wrong ----------------------------------------------------------------------------------------


def raw_bag(path: Path, images: list[tuple[int, int, dict[str, Any]]]) -> Path:
    """A bag of (seconds, nanoseconds, fields that are wrong) in this order, a tenth of a second apart."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/cam", "sensor_msgs/msg/Image", typestore=store)
        for i, (sec, nanosec, wrong) in enumerate(images):
            stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
            fields = {
                "header": types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera"),
                "height": 64, "width": 64, "encoding": "rgb8", "is_bigendian": 0, "step": 192,
                "data": np.full(64 * 64 * 3, i, np.uint8),
            }  # fmt: skip
            image = types["sensor_msgs/msg/Image"](**(fields | wrong))
            writer.write(connection, ORIGIN + i * SECOND // 10, store.serialize_cdr(image, "sensor_msgs/msg/Image"))
    return path


BAD: list[tuple[int, int, dict[str, Any]]] = [
    (-1, 0, {}),
    (100, 0, {}),
    (100, 500_000_000, {"encoding": "jpeg2000"}),
    (100, 600_000_000, {}),
    (100, 100_000_000, {}),
    (100, 2 * SECOND, {}),
    (101, 0, {"data": np.zeros(5, np.uint8)}),
    (101, 100_000_000, {}),
    (101, 600_000_000, {"height": 0}),
    (101, 700_000_000, {}),
]


def test_bad_frames_are_counted_and_do_not_stop_it(ask: Callable[..., Any], tmp_path: Path) -> None:
    document, said = ask(raw_bag(tmp_path / "bag", BAD), "-q", "What?", "--at", 1.05, "--at", "end")
    assert document["frames"]["drops"] == {
        "bad_stamp": 2, "unknown_encoding": 1, "stamp_backwards": 1, "short_data": 1, "zero_size": 1,
    }  # fmt: skip
    assert document["frames"]["read"] == 10 and balanced(document)
    # The time begins with the first image that has one, and the place of a bad one is taken by the next.
    assert [q["frames_seen"] for q in document["questions"]] == [2, 4]
    assert "ask_bag: image encoding 'jpeg2000' is not supported" in said


@pytest.mark.parametrize(
    # Of the first span 3 frames wait for their chunk, of the second none.
    ("policy", "seen", "drops"),
    [("reset", 3, {"time_jump": 3}), ("continue", 10, {}), ("mark", 10, {})],
)
def test_stamps_that_jump(
    ask: Callable[..., Any], tmp_path: Path, policy: str, seen: int, drops: dict[str, int]
) -> None:
    """As the node does: back, as where two recordings were joined, and ahead."""
    images: list[tuple[int, int, dict[str, Any]]] = [(100 + i, 0, {}) for i in range(3)]
    images += [(50 + i, 0, {}) for i in range(4)] + [(900 + i, 0, {}) for i in range(3)]
    bag = raw_bag(tmp_path / "bag", images)
    document, said = ask(bag, "-q", "What?", "--at", "end", "-p", f"on_time_jump:={policy}")
    frames = document["frames"]
    assert (frames["time_jumps_back"], frames["time_gaps"], balanced(document)) == (1, 1, True)
    assert document["questions"][0]["frames_seen"] == seen
    assert frames["drops"] == drops
    assert said.count("on_time_jump") == 2


def test_no_usable_frame_at_all(ask: Callable[..., Any], tmp_path: Path) -> None:
    bag = raw_bag(tmp_path / "bag", [(5 + i, 0, {"encoding": "none"}) for i in range(3)])
    document, _ = ask(bag, "-q", "What?", "--at", 1, "--at", 9, status=1)
    for question in document["questions"]:
        assert not question["success"] and "no video yet" in question["error"]
    assert document["frames"]["drops"] == {"unknown_encoding": 3} and balanced(document)


def test_damage_in_the_middle_keeps_what_was_answered(ask: Callable[..., Any], make_bag: MakeBag) -> None:
    path = make_bag("mcap", 60)
    (data,) = path.glob("*.mcap")
    content = bytearray(data.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 150_000] = bytes(150_000)
    data.write_bytes(content)
    document, said = ask(path, "-q", "What?", "--at", 0.5, "--at", 2.5, status=1)
    first, second = document["questions"]
    assert first["success"] and first["frames_seen"] == 2
    assert not second["success"] and "not answered: Bag" in second["error"] and "damaged" in second["error"]
    assert "after 19 of 60 messages" in said and "after 19 of 60 messages" in document["error"]
    assert document["frames"]["read"] == 19 and balanced(document)


def test_an_answer_in_front_of_the_damage_is_success(ask: Callable[..., Any], make_bag: MakeBag) -> None:
    path = make_bag("mcap", 60)
    (data,) = path.glob("*.mcap")
    content = bytearray(data.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 150_000] = bytes(150_000)
    data.write_bytes(content)
    document, _ = ask(path, "-q", "What?", "--at", 0.5)
    assert document["frames"]["read"] == 11


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_truncated(ask: Callable[..., Any], make_bag: MakeBag, storage: str) -> None:
    path = make_bag(storage, 60)
    (data,) = [f for f in path.iterdir() if f.name != "metadata.yaml"]
    data.write_bytes(data.read_bytes()[: data.stat().st_size * 6 // 10])
    _, said = ask(path, "-q", "What?", status=1)
    assert said.startswith("ask_bag: Bag") and "damaged or incomplete" in said


def test_what_cannot_be_opened(ask: Callable[..., Any], make_cameras: MakeBag, tmp_path: Path) -> None:
    for words, reason in (
        ([tmp_path / "none", "-q", "What?"], "does not exist"),
        ([DEMO, "-q", "What?", "--topic", "/none"], "has no topic '/none'"),
        ([DEMO, "-q", "What?", "--model", tmp_path / "none"], str(tmp_path / "none")),
        ([make_cameras(), "-q", "What?"], "2 image topics"),
    ):
        _, said = ask(*words, status=1)
        assert said.startswith("ask_bag: ") and reason in said


def test_compressed_images(ask: Callable[..., Any], make_cameras: MakeBag) -> None:
    document, _ = ask(make_cameras(), "-q", "What?", "--topic", "/right", "--target-fps", 0)
    assert document["questions"][0]["frames_seen"] == document["frames"]["read"] == 20 and balanced(document)


def test_depth_is_read_as_the_node_reads_it(ask: Callable[..., Any], tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(500, 6000, 112).astype("<u2"), (112, 1))
    fields = {"height": 112, "width": 112, "encoding": "16UC1", "step": 224, "data": ramp.view(np.uint8).reshape(-1)}
    bag = raw_bag(tmp_path / "depth", [(100 + i, 0, fields) for i in range(4)])
    words = [bag, "-q", "What is visible now?", "--choices", "nothing,a red circle", "--target-fps", 0]
    scores = []
    for far in (10.0, 3.0, 10.0):
        document, _ = ask(*words, "-p", f"depth_max_m:={far}")
        assert document["settings"]["depth_max_m"] == far
        scores.append(document["questions"][0]["scores"])
    assert scores[0] == scores[2] != scores[1]


def test_one_topic_of_several(ask: Callable[..., Any], make_cameras: MakeBag) -> None:
    document, _ = ask(make_cameras(), "-q", "What?", "--topic", "left", "--target-fps", 0, "--at", 1)
    assert document["bag"]["topic"] == "/left" and document["questions"][0]["frames_seen"] == 21


def test_a_question_that_is_too_long_fails_alone(ask: Callable[..., Any]) -> None:
    document, _ = ask(DEMO, "-q", "What? " * 3000, "-q", "What is visible now?", "--at", 2, "--at", 3, status=1)
    long, short = document["questions"]
    assert not long["success"] and "tokens" in long["error"]
    assert short["answer"] == "a red circle"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no question"),
        (["-q", " "], "it is empty"),
        (["-q", "a", "-q", "b", "--at", "1"], "2 questions but 1 moments"),
        (["-q", "a", "--choices", "x"], "choices"),
        (["-q", "a", "-p", "target_fsp:=1"], "did you mean target_fps?"),
        (["-q", "a", "--target-fps", "quick"], "target_fps='quick': must be a number"),
        (["-q", "a", "--chunk-frames", "0"], "chunk_frames=0: must be at least 1"),
        (["-q", "a", "--params-file", "/no/such.yaml"], "'/no/such.yaml' cannot be read"),
        (["-q", "a", "--json", "/no/such/out.json"], "there is no folder '/no/such'"),
    ],
)
def test_wrong_command_lines(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DEMO), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ask_bag: ") and reason in said


# --- as a process -------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_was_answered(make_bag: MakeBag) -> None:
    command = [sys.executable, "-m", "stream_vl_ros.bag.ask_bag", str(make_bag("mcap", 600)), *CPU, "--json"]
    command += ["-q", "What?", "--at", "0.5", "--at", "29", "--target-fps", "0", "--max-new-tokens", "3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("0.50 s: What?")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err == "ask_bag: stopped\n"
    document = json.loads(out)
    first, second = document["questions"]
    assert first["success"] and first["frames_seen"] == 11
    assert second["error"] == "not answered: stopped"
    assert 11 <= document["frames"]["read"] < 580 and balanced(document)


def test_without_ros() -> None:
    code = "import sys; sys.modules['rclpy'] = None; from stream_vl_ros.bag.ask_bag import main; sys.exit(main())"
    env = {name: value for name, value in os.environ.items() if "ROS" not in name and "AMENT" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code, str(DEMO), "-q", "What is visible now?", "--at", "3", *CPU],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a red circle" in done.stdout


def test_as_ros_runs_it() -> None:
    index = pytest.importorskip("ament_index_python.packages")
    try:
        prefix = index.get_package_prefix("stream_vl_ros")
    except index.PackageNotFoundError:
        pytest.skip("not built: make build")
    executable = Path(prefix) / "lib" / "stream_vl_ros" / "ask_bag"
    done = subprocess.run([sys.executable, executable, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--at SECONDS" in done.stdout
