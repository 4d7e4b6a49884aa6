"""The parameters as a whole, without ROS: several cameras, standing questions, changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stream_vl_ros.errors import ConfigError, RequestError
from stream_vl_ros.ros.parameters import PARAMETERS
from stream_vl_ros.ros.settings import Settings, is_ours
from stream_vl_ros.ros.stream_parameters import EXAMPLE, OF_A_STREAM, parameter_names
from stream_vl_ros.ros.streams import selected


def flat(tree: dict, path: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in tree.items():
        values |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return values


def test_a_node_without_streams_has_one_without_a_name():
    settings = Settings({"target_fps": 4.0})
    assert list(settings.streams) == [""]
    assert settings.streams[""] == settings.node
    assert settings.node["target_fps"] == 4.0 and len(settings.node) == len(PARAMETERS)


def test_the_example_in_the_parameter_file_works():
    assert EXAMPLE in (Path(__file__).parents[2] / "config" / "stream_vl.yaml").read_text()
    text = "\n".join(line.removeprefix("    # ") for line in EXAMPLE.splitlines()[3:])
    settings = Settings(flat(yaml.safe_load(text)))
    assert list(settings.streams) == ["front", "rear"]
    assert settings.streams["front"]["target_fps"] == 4.0
    assert settings.streams["rear"]["target_fps"] == settings.node["target_fps"]
    assert settings.streams["rear"]["eviction"] == "window"


def test_what_a_stream_does_not_say_is_as_the_node_has_it():
    given = {"streams": ["a", "b"], "target_fps": 3, "chunk_frames": 8, "stream.b.chunk_frames": 2}
    settings = Settings({**given, "stream.a.target_fps": None})
    assert [settings.streams[n]["chunk_frames"] for n in "ab"] == [8, 2]
    assert [settings.streams[n]["target_fps"] for n in "ab"] == [3.0, 3.0]
    assert [settings.streams[n]["image_topic"] for n in "ab"] == ["a/image_raw", "b/image_raw"]
    moved = settings.changed({"target_fps": 5.0}, configured=True)
    assert [moved.streams[n]["target_fps"] for n in "ab"] == [5.0, 5.0]
    own = moved.changed({"stream.b.target_fps": 1}, configured=True)
    assert [own.streams[n]["target_fps"] for n in "ab"] == [5.0, 1.0]
    back = own.changed({"stream.b.target_fps": None}, configured=True)
    assert [back.streams[n]["target_fps"] for n in "ab"] == [5.0, 5.0]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_when_each_parameter_may_be_changed(parameter):
    settings = Settings({})
    change = {parameter.name: parameter.default}
    unconfigured = parameter.changes in ("live", "unconfigured")
    for configured, allowed in ((False, unconfigured), (True, parameter.changes == "live")):
        if allowed:
            settings.changed(change, configured=configured)
        else:
            with pytest.raises(ConfigError, match=parameter.name):
                settings.changed(change, configured=configured)
    same = Settings({parameter.name: parameter.default})
    assert same.changed(change, configured=True) is same, "what stays as it is may always be said again"
    with pytest.raises(ConfigError, match="cannot be taken away"):
        same.changed({parameter.name: None}, configured=False)


@pytest.mark.parametrize("parameter", OF_A_STREAM, ids=lambda p: p.name)
def test_a_stream_may_change_what_the_node_may(parameter):
    settings = Settings({"streams": ["front"]})
    change = {f"stream.front.{parameter.name}": parameter.default}
    if parameter.changes == "live":
        settings.changed(change, configured=True)
    else:
        with pytest.raises(ConfigError, match=f"stream.front.{parameter.name}"):
            settings.changed(change, configured=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"streams": ["front", "rear"]}, "streams=.*read when the node starts"),
        ({"stream.rear.target_fps": 1.0}, "does not name 'rear'"),
        ({"stream.front.model": "random"}, "no such parameter of its own"),
        ({"stream.front.target_fps": -1.0}, "stream.front.target_fps=-1.0: must be at least 0"),
        ({"target_fps": float("nan")}, "target_fps=nan"),
        ({"eviction": "window"}, "eviction='window'.*budget"),
        ({"watches": ["person"]}, "watch.person.question: not set"),
        ({"watch.person.colour": "red"}, "watch.person.colour: a watch has no such parameter"),
        ({"watches": ["p"], "watch.p.question": "Who?", "watch.p.threshold": 2.0}, "watch.p: threshold=2.0"),
        ({"watches": ["p"], "watch.p.question": "Who?", "watch.p.stream": "rear"}, "there is no such stream"),
    ],
)
def test_a_change_that_cannot_work_is_refused_and_changes_nothing(changes, said):
    settings = Settings({"streams": ["front"]})
    before = dict(settings.given)
    with pytest.raises(ConfigError, match=said):
        settings.changed(changes, configured=True)
    assert settings.given == before


def test_watches_are_placed_in_streams():
    given = {
        "streams": ["front", "rear"], "watches": ["a", "b"],
        "watch.a.question": "Is there a person?", "watch.b.question": "Is the door open?", "watch.b.stream": "rear",
    }  # fmt: skip
    placed = Settings(given).watches
    assert [(p.watch.name, p.stream) for p in placed] == [("a", ""), ("b", "rear")]
    later = Settings(given).changed({"watch.c.question": "Is it dark?"}, configured=True)
    assert [p.watch.name for p in later.watches] == ["a", "b"], "asked once it is named"
    assert [p.watch.name for p in later.changed({"watches": ["c"]}, configured=True).watches] == ["c"]


def test_which_parameters_are_ours():
    for name in ("model", "streams", "watches", "stream.front.target_fps", "watch.a.question", *parameter_names("x")):
        assert is_ours(name)
    for name in ("use_sim_time", "qos_overrides./camera.subscription.depth", "modell"):
        assert not is_ours(name)


def test_which_streams_a_request_means():
    one, two = {"": 1}, {"front": 1, "rear": 2}
    assert selected(one, "") == selected(one, "all") == [1]
    assert selected(two, "all") == [1, 2]
    assert selected(two, "rear") == [2]
    for streams, name, said in (
        (one, "front", "one camera only"), (two, "", "name one of 'front', 'rear', or 'all'"), (two, "left", "'left'")
    ):  # fmt: skip
        with pytest.raises(RequestError, match=said):
            selected(streams, name)
