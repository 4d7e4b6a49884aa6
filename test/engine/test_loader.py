"""Loading checkpoints, and what is said when that fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stream_vl_ros.engine import load_model
from stream_vl_ros.engine.random_checkpoint import SPECIAL_TOKENS, random_checkpoint
from stream_vl_ros.errors import ModelLoadError, StreamVLError


@pytest.fixture
def folder(loaded, tmp_path) -> Path:
    """A checkpoint to be spoilt."""
    return Path(shutil.copytree(loaded.name, tmp_path / "checkpoint"))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def load(source: object, **settings: str):
    return load_model(str(source), device="cpu", dtype="float32", **settings)


def assert_refused(source: object, *words: str, hint: str) -> str:
    with pytest.raises(ModelLoadError) as raised:
        load(source)
    message = str(raised.value)
    assert isinstance(raised.value, StreamVLError)
    assert repr(str(source)) in message
    assert all(word in message for word in words), message
    assert hint in message, f"no word on what to do: {message}"
    assert "\n" not in message
    return message


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- what works ---------------------------------------------------------------------------------------------


def test_a_folder(loaded):
    control = loaded.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert loaded.eos_ids == set(control)
    assert loaded.adapter.dtype == torch.float32
    assert loaded.adapter.device == torch.device("cpu")
    assert not loaded.native.training
    assert not any(p.requires_grad for p in loaded.native.parameters())
    text = loaded.native.config.text_config
    shape = loaded.adapter.cache_shape
    assert (shape.layers, shape.kv_heads) == (text.num_hidden_layers, text.num_key_value_heads)


def test_every_special_token_is_one_token(loaded):
    for token in SPECIAL_TOKENS:
        assert len(loaded.tokenizer(token, add_special_tokens=False).input_ids) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype(folder, dtype):
    model = load_model(str(folder), device="cpu", dtype=dtype)
    assert model.adapter.dtype == model.adapter.cache_shape.dtype == getattr(torch, dtype)


def test_qwen2_vl(tmp_path):
    model = load(random_checkpoint(1, model_type="qwen2_vl", folder=tmp_path))
    assert model.adapter.tokens_per_second is None


def test_the_random_checkpoint_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load("random")
    assert not model.answers_mean_something
    assert "random" in model.name
    assert (tmp_path / "stream_vl_ros").is_dir()


def test_the_random_checkpoint_depends_on_its_seed_alone(tmp_path):
    torch.manual_seed(1)
    one = load_file(random_checkpoint(5, folder=tmp_path / "a") / "model.safetensors")
    state = torch.get_rng_state()
    two = load_file(random_checkpoint(5, folder=tmp_path / "b") / "model.safetensors")
    other = load_file(random_checkpoint(6, folder=tmp_path / "a") / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    assert len(list((tmp_path / "a").iterdir())) == 2


# --- what does not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "/no/such/folder",
        "./nowhere",
        "../no/where",
        "nowhere",
        "a/b/c",
        "~/no-such-folder-here",
        "~nobody-by-this-name/x",
    ],
)
def test_an_unknown_path(source):
    assert_refused(source, "no such folder", hint="embedded")


def test_a_hub_id_without_network(offline):
    assert_refused("nobody-here/no-such-model", hint="check the spelling and the network, or download it")


def test_a_folder_without_config(tmp_path):
    assert_refused(tmp_path, "config.json", hint="save_pretrained")


def test_a_file(folder):
    assert_refused(folder / "model.safetensors", "config.json", hint="give the folder")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    assert_refused(folder, "configuration could not be read", hint="download")


@pytest.mark.parametrize("kind", ["llama", "qwen3_vl", None])
def test_another_family(folder, kind):
    edit(folder / "config.json", model_type=kind)
    assert_refused(folder, repr(kind), hint="supported are ['qwen2_5_vl', 'qwen2_vl']")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert_refused(folder, "model.safetensors", hint=";")


def test_pickled_weights_are_not_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_refused(folder, "safetensors", hint=";")


@pytest.mark.parametrize("spoil", ["cut", "header", "empty", "text"])
def test_spoilt_weights(folder, spoil):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    cut, header = data[: len(data) // 2], b"\xff" * 16 + data[16:]
    path.write_bytes({"cut": cut, "header": header, "empty": b"", "text": b"version https://git-lfs\n"}[spoil])
    assert_refused(folder, hint=";")


def test_weights_that_lack_a_tensor(folder):
    # transformers fills it with random numbers and logs a line; the answers would be noise.
    tensors = load_file(folder / "model.safetensors")
    del tensors[next(k for k in tensors if k.endswith("layers.0.self_attn.k_proj.weight"))]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert_refused(folder, "k_proj", hint=";")


def test_weights_of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", text_config=config["text_config"] | {"intermediate_size": 100})
    assert_refused(folder, hint=";")


@pytest.mark.parametrize("names", [["processor_config.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_folder_that_is_not_complete(folder, names):
    for name in names:
        (folder / name).unlink()
    assert_refused(folder, hint=";")


def test_a_cache_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelLoadError, match=r"file.*XDG_CACHE_HOME"):
        load_model("random", device="cpu")


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x", "cuda:-5"])
def test_a_device_that_is_none(folder, device):
    with pytest.raises(ModelLoadError, match=f"device='{device}'.*(use|there)"):
        load_model(str(folder), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_that_is_not_here(folder, device):
    with pytest.raises(ModelLoadError, match=f"device='{device}'.*no CUDA device.*'cpu'"):
        load_model(str(folder), device=device)


@pytest.mark.parametrize("device", ["mps", "xpu", "meta"])
def test_a_device_that_cannot_be_used(folder, device):
    with pytest.raises(ModelLoadError, match=f"device='{device}'.*use 'auto'"):
        load_model(str(folder), device=device, dtype="float32")


@pytest.mark.parametrize("dtype", ["fp32", "int8", "", "torch.float32"])
def test_a_dtype_that_is_none(folder, dtype):
    with pytest.raises(ModelLoadError, match=f"dtype='{dtype}'.*use 'auto' or one of.*bfloat16"):
        load_model(str(folder), dtype=dtype)


def test_an_existing_folder_of_that_name_is_not_a_hub_id(monkeypatch, folder):
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "owner")
    assert load("owner").name == "owner"


# --- at once ------------------------------------------------------------------------------------------------

MAKE = """
import sys
from pathlib import Path
import torch, transformers
from stream_vl_ros.engine import random_checkpoint as module
torch.set_num_threads(1)
print("ready", flush=True)
sys.stdin.readline()
print(module.random_checkpoint(7, folder=Path(sys.argv[1])), flush=True)
"""


def test_two_processes_make_the_random_checkpoint_at_once(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONWARNINGS": "ignore"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        assert [p.stdout.readline() for p in processes] == ["ready\n"] * 2
        for p in processes:
            p.stdin.write("\n")
            p.stdin.flush()
        results = [p.communicate(timeout=60) for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], results
    assert results[0][0] == results[1][0]
    # One checkpoint, nothing left over beside it, and it works.
    assert [str(p) for p in tmp_path.iterdir()] == [results[0][0].strip()]
    load(results[0][0].strip())
