"""The Foxglove layout names what the node really offers. Foxglove cannot be had here: nobody opened it in there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")

from stream_vl_ros.srv import Ask

LAYOUT = json.loads((Path(__file__).parents[2] / "config" / "foxglove_layout.json").read_text())
PANELS = LAYOUT["configById"]
# What Foxglove calls its panels.
KINDS = {"Image", "CallService", "RawMessages", "StateTransitions", "Plot", "DiagnosticSummary", "RosOut"}


def leaves(tree: object) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
        return
    assert isinstance(tree, dict)
    assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
    yield from leaves(tree["first"])
    yield from leaves(tree["second"])


def paths() -> list[str]:
    """Every topic, or field of one, that a panel shows."""
    found = []
    for panel in PANELS.values():
        found += [series["value"] for series in panel.get("paths", [])]
        found += [panel[key] for key in ("topicPath", "topicToRender") if key in panel]
        found += [panel["imageMode"]["imageTopic"]] if "imageMode" in panel else []
    return found


def test_every_panel_is_on_the_screen_once():
    assert sorted(leaves(LAYOUT["layout"])) == sorted(PANELS)
    assert {name.split("!")[0] for name in PANELS} == KINDS


@pytest.fixture(scope="module")
def types(request) -> dict[str, str]:
    from stream_vl_ros.ros.node import NODE_NAME

    assert NODE_NAME == "stream_vl"
    return {
        "/stream_vl/status": "StreamStatus",
        "/stream_vl/answer": "Answer",
        "/stream_vl/event": "Event",
    }


@pytest.mark.parametrize("path", sorted(set(paths())))
def test_what_is_shown_exists(path, types):
    import stream_vl_ros.msg

    topic, _, name = path.partition(".")
    if not name:
        assert topic in {*types, "/stream_vl/debug_image", "/diagnostics", "/rosout"}
        return
    assert name in getattr(stream_vl_ros.msg, types[topic]).get_fields_and_field_types()


def test_what_is_shown_is_published_and_the_request_is_one(start_node, robot):
    start_node()
    topics = dict(robot.node.get_topic_names_and_types())
    for path in paths():
        assert path.partition(".")[0] in topics
    panel = next(p for name, p in PANELS.items() if name.startswith("CallService"))
    assert panel["serviceName"] in dict(robot.node.get_service_names_and_types())
    fields = json.loads(panel["requestPayload"])
    request = Ask.Request(**fields)
    response = robot.result(robot.ask_client.call_async(request))
    assert "not one frame" in response.error, "it was understood, and there is no video yet"
