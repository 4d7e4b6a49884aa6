"""Model folders that are corrupt, half copied or of another family: said, and mended without starting anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from safetensors.torch import load_file, save_file

from stream_vl_ros.demo.scene import FPS, demo_clip
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER

SECOND = 1_000_000_000
WEIGHTS = "model.safetensors"


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 3])


def pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")


def sharded(folder: Path) -> None:
    """As large checkpoints are: two files and an index."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()


def shard_missing(folder: Path) -> None:
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def shard_cut(folder: Path) -> None:
    sharded(folder)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:1000])


def config_cut(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text()[:200])


def config_wrong(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"text_config": "none"}))


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def tokenizer_cut(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:500])


def no_processor(folder: Path) -> None:
    for file in folder.glob("*processor_config.json"):
        file.unlink()


def llama(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))


SPOILT: dict[Callable[[Path], None], str] = {
    cut: "could not be loaded",
    pointer: "could not be loaded",
    shard_missing: "model-00002-of-00002.safetensors",
    shard_cut: "could not be loaded",
    config_cut: "its configuration could not be read",
    config_wrong: "could not be loaded",
    no_tokenizer: "tokenizer",
    tokenizer_cut: "could not be loaded",
    no_processor: "could not be loaded",
    llama: "of the family 'llama'; supported are ['qwen2_5_vl', 'qwen2_vl']",
}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A copy of the embedded checkpoint for each fault, spoilt by it, and a good one in shards."""
    made = {}
    for spoil in (*SPOILT, sharded):
        made[spoil.__name__] = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / spoil.__name__))
        spoil(made[spoil.__name__])
    return made


def test_a_spoilt_folder_is_said_and_can_be_mended(start_node, robot, folders):
    node = start_node(ready=False, autostart=False, model="random")
    change = robot.node.create_client(ChangeState, "/stream_vl/change_state")
    state = robot.node.create_client(GetState, "/stream_vl/get_state")
    parameters = AsyncParameterClient(robot.node, "/stream_vl")
    robot.reach(change)
    robot.reach(state)
    robot.spin_until(parameters.services_are_ready, 20, "parameters can be set")

    def configure(folder: Path) -> bool:
        robot.result(parameters.set_parameters([Parameter("model", value=str(folder))]))
        robot.statuses.clear()
        transition = Transition(id=Transition.TRANSITION_CONFIGURE)
        return robot.result(change.call_async(ChangeState.Request(transition=transition)), 60).success

    for spoil, reason in SPOILT.items():
        folder = folders[spoil.__name__]
        assert not configure(folder), f"{folder} was taken"
        robot.spin_until(
            lambda: robot.statuses and robot.statuses[-1].state == "error", 10, f"status tells of {spoil.__name__}"
        )
        message = robot.statuses[-1].message
        assert repr(str(folder)) in message and reason in message and ";" in message, message
        assert "\n" not in message and message in node.log
        assert robot.result(state.call_async(GetState.Request())).current_state.label == "unconfigured"
        refused = robot.result(robot.ask("What is visible now?"))
        assert not refused.success and "the model could not be loaded" in refused.error and reason in refused.error

    assert configure(folders["sharded"])
    activate = Transition(id=Transition.TRANSITION_ACTIVATE)
    assert robot.result(change.call_async(ChangeState.Request(transition=activate))).success
    robot.wait_ready()
    assert not robot.statuses[-1].message
    for i, picture in enumerate(demo_clip(end=4.0)[0][:: FPS // 2]):
        robot.publish(picture, SECOND + i * SECOND // 2)
    robot.settled(8)
    assert robot.result(robot.ask("What is visible now?")).answer == "a red circle"
    for client in (change, state):
        robot.node.destroy_client(client)
    assert "Traceback" not in node.log and node.stop() == 0
