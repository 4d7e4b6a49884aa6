"""What a checkpoint from somebody else can and cannot do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stream_vl_ros.engine import VideoStream, load_model
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.errors import ModelLoadError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the embedded one, to spoil."""
    return Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "checkpoint"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that appears if somebody else's code runs."""
    return tmp_path / "canary"


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def edit(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def refused(folder: Path, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load_model(str(folder), device="cpu")
    assert str(folder) in str(caught.value)


def index(folder: Path, file: str) -> None:
    """Weights as large checkpoints name them."""
    names = list(load_file(EMBEDDED_FOLDER / "model.safetensors"))
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(names, file))


def test_the_payload_would_run(tmp_path, canary):
    torch.save({"a": Payload(canary)}, tmp_path / "file.bin")
    torch.load(tmp_path / "file.bin", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
def test_pickled_weights_are_refused(checkpoint, canary, name):
    (checkpoint / "model.safetensors").unlink()
    torch.save({"a": Payload(canary)}, checkpoint / name)
    refused(checkpoint, rf"pickled \({name}\).*safetensors")
    assert not canary.exists()


def test_pickled_weights_beside_others_are_not_read(checkpoint, canary):
    torch.save({"a": Payload(canary)}, checkpoint / "pytorch_model.bin")
    load_model(str(checkpoint), device="cpu")
    assert not canary.exists()


@pytest.mark.parametrize(
    "file", ["weights.bin", "weights.safetensors.bin", "../outside.safetensors", "/etc/passwd", ""]
)
def test_an_index_names_nothing_else(checkpoint, canary, file):
    """transformers would unpickle what it names, or read it from elsewhere."""
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "outside.safetensors")
    for name in ("weights.bin", "weights.safetensors.bin"):
        torch.save(weights | {"a": Payload(canary)}, checkpoint / name)
    index(checkpoint, file)
    refused(checkpoint, r"index\.json names .*own folder only")
    assert not canary.exists()


def test_a_configuration_names_no_other_weights(checkpoint, canary):
    weights = load_file(checkpoint / "model.safetensors")
    torch.save(weights | {"a": Payload(canary)}, checkpoint.parent / "weights.bin")
    index(checkpoint, "../weights.bin")
    (checkpoint / "model.safetensors.index.json").rename(checkpoint / "other.safetensors.index.json")
    edit(checkpoint / "config.json", transformers_weights="other.safetensors.index.json")
    refused(checkpoint, "config.json has transformers_weights=")
    assert not canary.exists()


def test_an_index_of_safetensors_is_read(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00001.safetensors")
    index(checkpoint, "model-00001-of-00001.safetensors")
    load_model(str(checkpoint), device="cpu")


@pytest.mark.parametrize("trust", ["", "1", "true"])
def test_code_of_a_checkpoint_is_never_run(checkpoint, canary, monkeypatch, trust):
    """Wherever `auto_map` names it, and whatever the environment says."""
    for prefix in ("", "HF_", "HF_HUB_", "TRANSFORMERS_", "STREAM_VL_"):
        monkeypatch.setenv(f"{prefix}TRUST_REMOTE_CODE", trust)
    (checkpoint / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
        "from transformers import Qwen2_5_VLConfig as C, Qwen2_5_VLForConditionalGeneration as M\n"
        "from transformers import Qwen2_5_VLProcessor as P, Qwen2Tokenizer as T\n"
    )
    edit(checkpoint / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForImageTextToText": "evil.M"})
    edit(checkpoint / "processor_config.json", auto_map={"AutoProcessor": "evil.P"})
    edit(checkpoint / "preprocessor_config.json", auto_map={"AutoProcessor": "evil.P", "AutoImageProcessor": "evil.P"})
    edit(checkpoint / "video_preprocessor_config.json", auto_map={"AutoVideoProcessor": "evil.P"})
    edit(checkpoint / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    (checkpoint / "custom_generate").mkdir()
    (checkpoint / "custom_generate" / "generate.py").write_text(f"open({str(canary)!r}, 'w')\n")
    model = load_model(str(checkpoint), device="cpu")
    assert type(model.native).__module__.startswith("transformers.models.")
    assert not canary.exists()
    edit(checkpoint / "config.json", model_type="evil")
    refused(checkpoint, "of the family 'evil'")
    assert not canary.exists()


@pytest.mark.parametrize("part", ["", "text_config", "vision_config"])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize(
    "value", ["kernels-community/flash-attn3", {"": "evil/kernel"}, "paged|evil/kernel:f", "flash_attention_2"]
)
def test_kernels_of_the_hub_are_refused(checkpoint, part, key, value):
    """They are fetched and run where the package `kernels` is installed."""
    config = json.loads((checkpoint / "config.json").read_text())
    (config.setdefault(part, {}) if part else config)[key] = value
    (checkpoint / "config.json").write_text(json.dumps(config))
    refused(checkpoint, "code from the hub")


def test_a_chat_template_cannot_reach_python(checkpoint, canary):
    """transformers' sandbox refuses it, and the layout that the models were trained with is used."""
    (checkpoint / "chat_template.jinja").write_text(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        f"{{{{ cycler.__init__.__globals__.os.mkdir('{canary}') }}}}{{% for i in range(99999999) %}}{{% endfor %}}"
    )
    assert not VideoStream(load_model(str(checkpoint), device="cpu")).pieces.known
    assert not canary.exists()
