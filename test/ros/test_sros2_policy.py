"""config/sros2/policy.xml: its structure is that of sros2's schema, its names are those of the running node."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rclpy.action.graph import get_action_server_names_and_types_by_node
from rclpy.node import NodeNameNonExistentError

POLICY = Path(__file__).parents[2] / "config" / "sros2" / "policy.xml"
NODE = "/stream_vl"
# What the schema allows (ros2/sros2, sros2/sros2/policy/schemas/policy.xsd): name, attributes, what is inside.
SCHEMA: dict[str, tuple[set[str], set[str]]] = {
    "policy": ({"version"}, {"enclaves"}),
    "enclaves": (set(), {"enclave"}),
    "enclave": ({"path"}, {"profiles"}),
    "profiles": (set(), {"profile"}),
    "profile": ({"ns", "node"}, {"topics", "services", "actions"}),
    "topics": ({"publish", "subscribe"}, {"topic"}),
    "services": ({"reply", "request"}, {"service"}),
    "actions": ({"call", "execute"}, {"action"}),
    "topic": (set(), set()),
    "service": (set(), set()),
    "action": (set(), set()),
}


def profile(enclave: str) -> ET.Element:
    found = ET.parse(POLICY).getroot().find(f"enclaves/enclave[@path='{enclave}']/profiles/profile")
    assert found is not None, enclave
    return found


def names(element: ET.Element, kind: str, rule: str) -> set[str]:
    """Full names under `topics publish`, `services reply` and so on."""
    found = [entry for group in element.findall(kind) if group.get(rule) == "ALLOW" for entry in group]
    full = [
        str(entry.text).replace("~", f"{element.get('ns', '').rstrip('/')}/{element.get('node')}") for entry in found
    ]
    assert len(set(full)) == len(full), f"twice in {kind} {rule}"
    assert full == sorted(full), f"{kind} {rule} is not in order"
    return set(full)


def test_structure():
    root = ET.parse(POLICY).getroot()
    assert (root.tag, root.attrib) == ("policy", {"version": "0.2.0"})
    for element in root.iter():
        attributes, inside = SCHEMA[element.tag]
        assert set(element.attrib) <= attributes, element.tag
        assert {child.tag for child in element} <= inside, element.tag
        if element.tag in ("topics", "services", "actions"):
            assert element.attrib and set(element.attrib.values()) == {"ALLOW"} and len(element)
        elif not inside:
            assert str(element.text).startswith(("/", "~/"))
        else:
            assert attributes == set(element.attrib)


@pytest.fixture
def graph(start_node, robot):
    """What the running node has, by kind."""
    node, whose = robot.node, (NODE.strip("/"), "/")

    def plain(found) -> set[str]:
        return {name for name, _ in found if "/_action/" not in name}

    def look() -> dict[str, set[str]]:
        return {
            "publish": plain(node.get_publisher_names_and_types_by_node(*whose)),
            "subscribe": plain(node.get_subscriber_names_and_types_by_node(*whose)),
            "reply": plain(node.get_service_names_and_types_by_node(*whose)),
            "request": plain(node.get_client_names_and_types_by_node(*whose)),
            "execute": {name for name, _ in get_action_server_names_and_types_by_node(node, *whose)},
        }

    def known() -> bool:
        try:
            return f"{NODE}/watch" in look()["reply"] and bool(look()["subscribe"])
        except NodeNameNonExistentError:
            return False

    # Who has what is told in one message for each process, and once in hundreds of starts nobody hears it.
    for attempt in range(3):
        process = start_node(image_topic="/camera/image_raw", ready=False)
        robot.statuses.clear()
        robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the node is ready")
        try:
            robot.spin_until(known, 20, "its graph is known")
        except AssertionError:
            if attempt == 2:
                raise
            process.stop()
            continue
        break
    robot.spin_for(1.0)
    return look()


def test_the_node_may_do_what_it_does_and_nothing_else(graph):
    """A name that is missing here is a line that is missing in the policy, and the other way round."""
    node = profile(NODE)
    assert names(node, "topics", "publish") == graph["publish"]
    # /clock with use_sim_time.
    assert names(node, "topics", "subscribe") == graph["subscribe"] | {"/clock"}
    assert names(node, "services", "reply") == graph["reply"]
    assert names(node, "services", "request") == graph["request"] == set()
    assert names(node, "actions", "execute") == graph["execute"] == {f"{NODE}/ask_stream"}


def test_the_operator_may_do_everything(graph):
    operator = profile("/stream_vl_operator")
    assert names(operator, "services", "request") == graph["reply"]
    assert names(operator, "actions", "call") == graph["execute"]
    assert names(operator, "topics", "subscribe") == graph["publish"]


def test_who_asks_changes_nothing(graph):
    asker, camera = profile("/stream_vl_asker"), profile("/camera")
    assert names(asker, "services", "request") == {f"{NODE}/ask"}
    assert names(asker, "topics", "subscribe") <= graph["publish"]
    assert names(asker, "topics", "publish") == {"/parameter_events", "/rosout"}
    assert not names(camera, "services", "request") and not names(camera, "actions", "call")
    assert names(camera, "topics", "publish") & graph["subscribe"] == {"/camera/image_raw"}


@pytest.mark.parametrize("enclave", ["", "/stream_vl"])
def test_a_node_without_keys_does_not_start_in_the_open(ros_env, tmp_path, enclave):
    """Where SROS 2 is demanded, and keys or a middleware that uses them are missing."""
    (tmp_path / "enclaves").mkdir()
    env = ros_env | {
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }
    arguments = ["--ros-args", "--enclave", enclave] if enclave else []
    node = subprocess.run(
        [sys.executable, "-m", "stream_vl_ros.ros.main", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert node.returncode == 2, node.stderr
    # No keys, or a Fast DDS that was built without security, as the one on PyPI is.
    fatal = next(line for line in node.stderr.splitlines() if line.startswith("[FATAL]"))
    assert "SECURITY ERROR" in fatal or "security libraries" in fatal, fatal
    assert "Traceback" not in node.stderr
