"""Parameters of the node, from a file of ROS and from a command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream_vl_ros.bag.ask_settings import settings
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.parameters import PARAMETERS

CONFIG = Path(__file__).parents[2] / "config" / "stream_vl.yaml"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_are_the_nodes() -> None:
    found = settings(None, (), {})
    assert dict(found.values) == {p.name: p.default for p in PARAMETERS}
    assert dict(settings(CONFIG, (), {}).values) == dict(found.values)
    assert found.notes == settings(CONFIG, (), {}).notes == ()


def test_an_option_beats_p_beats_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "my.yaml", "/**:\n  ros__parameters: {target_fps: 1.0, chunk_frames: 8, max_pixels: 5000}\n"
    )
    found = settings(file, ("target_fps:=3", "chunk_frames:=6", "chunk_frames:=2"), {"target_fps": "4"}).values
    assert (found["target_fps"], found["chunk_frames"], found["max_pixels"]) == (4.0, 2, 5000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("target_fps:=4", 4.0),
        ("target_fps:=1e1", 10.0),
        ("chunk_frames:=8", 8),
        ("system_prompt:=Be brief: one word.", "Be brief: one word."),
        ("system_prompt:='123'", "123"),
        ("system_prompt:=yes", "yes"),
        ("system_prompt:=", ""),
        ("publish_signature:=true", True),
    ],
)
def test_values_take_the_type_of_their_parameter(text: str, value: object) -> None:
    found = settings(None, (text,), {}).values[text.partition(":=")[0]]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("target_fps", "'target_fps' is not a parameter; write NAME:=VALUE"),
        (":=3", "is not a parameter"),
        ("target_fsp:=3", "no parameter is called 'target_fsp'; did you mean target_fps?"),
        ("zzz:=3", "no parameter is called 'zzz'; there are autostart, model, device"),
        ("target_fps:=fast", "target_fps='fast': must be a number"),
        ("target_fps:=nan", "target_fps=nan: must be a number"),
        ("target_fps:=-1", "target_fps=-1.0: must be at least 0"),
        ("chunk_frames:=2.5", "chunk_frames=2.5: must be a whole number"),
        ("eviction:=oldest", "must be one of none, window, importance"),
        ("eviction:=window", "needs a budget"),
    ],
)
def test_wrong_values(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason.replace("?", r"\?")):
        settings(None, (text,), {})


def test_what_makes_no_difference_is_said() -> None:
    found = settings(None, ("flush_after:=1.0", "image_topic:=/cam"), {})
    assert len(found.notes) == 2
    assert "flush_after makes no difference to a recording" in found.notes[0]
    assert "flush_after" not in found.used and "image_topic" not in found.used and "target_fps" in found.used


@pytest.mark.parametrize(
    "text",
    [
        "stream_vl:\n  ros__parameters:\n    target_fps: 5\n",
        "/stream_vl:\n  ros__parameters:\n    target_fps: 5\n",
        "/robot/stream_vl:\n  ros__parameters:\n    target_fps: 5\n",
        "robot:\n  stream_vl:\n    ros__parameters:\n      target_fps: 5\n",
        "/**:\n  ros__parameters:\n    target_fps: 1\nother:\n  ros__parameters:\n    target_fps: 9\n"
        "/**/stream_vl:\n  ros__parameters:\n    target_fps: 5\n",
    ],
)
def test_sections_for_the_node(tmp_path: Path, text: str) -> None:
    assert settings(write(tmp_path / "my.yaml", text), (), {}).values["target_fps"] == 5.0


def test_what_a_robots_file_holds_besides(tmp_path: Path) -> None:
    text = (
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    qos_overrides: {/tf: {publisher: {depth: 5}}}\n"
        "    image_topic: /front\n    target_fsp: 3.0\n    model: random\n"
    )
    found = settings(write(tmp_path / "my.yaml", text), (), {})
    assert found.values["model"] == "random"
    (note,) = found.notes
    assert "my.yaml" in note and "'target_fsp'; did you mean target_fps? It is ignored." in note


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("a: [", "is not YAML"),
        ("target_fps: 3\n", "no section with ros__parameters"),
        ("- 3\n", "no section with ros__parameters"),
        ("front:\n  ros__parameters:\n    target_fps: 3\n", "nothing for stream_vl: only for /front"),
        ("/**:\n  ros__parameters:\n    target_fps: quick\n", "target_fps='quick': must be a number"),
        ("/**:\n  ros__parameters:\n    model: 3\n", "model=3: must be text"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "my.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        settings(file, (), {})


def test_needs_neither_ros_nor_torch() -> None:
    code = (
        "import sys; sys.modules['rclpy'] = sys.modules['torch'] = None; import stream_vl_ros.bag.ask_bag as a; "
        "a.parser()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_standing_questions_of_a_node_are_not_asked(tmp_path: Path) -> None:
    text = "/**:\n  ros__parameters:\n    watches: [door]\n    watch: {door: {question: 'Open?'}}\n"
    (note,) = settings(write(tmp_path / "my.yaml", text), (), {}).notes
    assert "standing questions are not asked of a recording" in note


STREAMS = """
/**:
  ros__parameters:
    streams: ["front", "rear"]
    target_fps: 1.0
    stream:
      front: {target_fps: 4.0}
      rear: {chunk_frames: 2}
"""


def test_a_stream_of_the_file_is_chosen(tmp_path: Path) -> None:
    file = write(tmp_path / "two.yaml", STREAMS)
    front, rear = (settings(file, (), {}, name).values for name in ("front", "rear"))
    assert (front["target_fps"], front["chunk_frames"]) == (4.0, 4)
    assert (rear["target_fps"], rear["chunk_frames"]) == (1.0, 2)
    assert settings(file, (), {"target_fps": "3"}, "front").values["target_fps"] == 3.0
    none = settings(file, (), {})
    assert none.values["target_fps"] == 1.0
    assert none.notes == ("What is said of streams is left out; --stream chooses one of front, rear.",)
    with pytest.raises(ConfigError, match="--stream left: there is no such stream; there are front, rear"):
        settings(file, (), {}, "left")
    with pytest.raises(ConfigError, match="there are none"):
        settings(None, (), {}, "left")
