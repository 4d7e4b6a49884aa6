"""Loading a checkpoint: the one packaged here, a folder, or a hub id. One path for all of them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stream_vl_ros.engine import few_queries
from stream_vl_ros.engine.adapters import ADAPTERS, ModelAdapter
from stream_vl_ros.engine.checkpoint_trust import check_checkpoint
from stream_vl_ros.engine.random_checkpoint import RANDOM_NAME, random_checkpoint
from stream_vl_ros.errors import ModelLoadError

log = logging.getLogger(__name__)

EMBEDDED = "embedded"
RANDOM = "random"
EMBEDDED_FOLDER = Path(__file__).parent.parent / "models" / "tiny"

_INCOMPLETE = (
    "check that the folder holds everything that `save_pretrained` writes (config, processor, tokenizer, safetensors), "
    "or download it again"
)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checkpoint in memory.

    Attributes:
        name: what it was loaded from, for people to read.
        adapter: the model as the engine uses it.
        processor: transformers' processor of the checkpoint.
        tokenizer: its tokenizer.
        eos_ids: tokens that end an answer.
        native: transformers' own model object, for comparisons.
    """

    name: str
    adapter: ModelAdapter
    processor: Any
    tokenizer: Any
    eos_ids: frozenset[int]
    native: Any

    @property
    def answers_mean_something(self) -> bool:
        """False for the seeded random checkpoint."""
        return not self.name.startswith(RANDOM_NAME)


def load_model(source: str = EMBEDDED, *, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load a Qwen2.5-VL or Qwen2-VL checkpoint, weights from safetensors only, no code from the checkpoint.

    Args:
        source: ``"embedded"`` (the small checkpoint in this package), ``"random"`` (a seeded random one, whose answers
            mean nothing), a folder, or a hub id such as ``"Qwen/Qwen2.5-VL-3B-Instruct"``.
        device: ``"auto"`` (CUDA if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        dtype: ``"auto"`` (bfloat16 on CUDA, float32 on the CPU), ``"float32"``, ``"bfloat16"``, ``"float16"``.

    Raises:
        ModelLoadError: with the reason and a hint.
    """
    import transformers

    place = device_called(device)
    precision = dtype_called(dtype, place)
    folder, name = _resolve(source)
    kind = _model_type(folder, source)
    check_checkpoint(folder, source)
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=precision, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
        model = model.to(place).eval().requires_grad_(False)
    except torch.cuda.OutOfMemoryError as error:
        raise ModelLoadError(
            f"model {source!r} does not fit on {place}: {error}; use a smaller one or dtype"
        ) from error
    except Exception as error:
        raise ModelLoadError(f"model {source!r} could not be loaded: {_first_line(error)}; {_INCOMPLETE}") from error
    _check_whole(source, model, processor.tokenizer, report)
    adapter = ADAPTERS[kind](model, processor)
    log.info("loaded %s (%s) on %s in %s", name, kind, place, str(precision).removeprefix("torch."))
    if place.type == "cpu":  # once, while there is memory for it: it is needed when memory may have run out
        few_queries.library()
    return LoadedModel(name, adapter, processor, processor.tokenizer, _eos_ids(model, processor.tokenizer), model)


def has_embedded() -> bool:
    """Whether the package holds its trained checkpoint."""
    return (EMBEDDED_FOLDER / "model.safetensors").is_file()


def _resolve(source: str) -> tuple[str, str]:
    if source in ("", EMBEDDED):
        if has_embedded():
            return str(EMBEDDED_FOLDER), "stream-vl-tiny (embedded)"
        source = RANDOM
    if source == RANDOM:
        try:
            return str(random_checkpoint()), RANDOM_NAME
        except OSError as error:
            raise ModelLoadError(
                f"model {source!r}: the random checkpoint could not be written: {error}; set XDG_CACHE_HOME to a "
                "folder that can be written to"
            ) from error
    try:
        path = Path(source).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError):  # no such user, too long a name, no permission to look
        path, exists = Path(source), False
    if exists:
        if not path.is_dir() or not (path / "config.json").is_file():
            raise ModelLoadError(
                f"model {source!r}: there is no config.json in it; give the folder of a checkpoint as "
                "`save_pretrained` writes it"
            )
        return str(path), str(path)
    if source.startswith(("/", "./", "../", "~")) or source.count("/") != 1:
        raise ModelLoadError(
            f"model {source!r}: there is no such folder, and it is no hub id (owner/name) either; use 'embedded' for "
            "the checkpoint that comes with the package"
        )
    return source, source


def _model_type(folder: str, source: str) -> str:
    import transformers

    try:
        if Path(folder).is_dir():
            kind = json.loads((Path(folder) / "config.json").read_text()).get("model_type")
        else:
            kind = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
    except Exception as error:
        raise ModelLoadError(
            f"model {source!r}: its configuration could not be read: {_first_line(error)}; for a hub id check the "
            "spelling and the network, or download it first and give the folder"
        ) from error
    if kind not in ADAPTERS:
        raise ModelLoadError(f"model {source!r} is of the family {kind!r}; supported are {sorted(ADAPTERS)}")
    return str(kind)


def device_called(device: str) -> torch.device:
    """The device of that name, as `load_model` takes it; `ModelLoadError` if there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ModelLoadError(f"device={device!r}: not a device name; use 'auto', 'cpu' or 'cuda'") from error
    if place.type not in ("cpu", "cuda"):
        raise ModelLoadError(f"device={device!r}: not supported; use 'auto', 'cpu' or 'cuda'")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelLoadError(f"device={device!r}: PyTorch sees no CUDA device here; use 'auto' or 'cpu'")
    return place


def dtype_called(dtype: str, device: torch.device) -> torch.dtype:
    """The same for a type of numbers on a device."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ModelLoadError(f"dtype={dtype!r}: use 'auto' or one of {sorted(_DTYPES)}")
    return _DTYPES[dtype]


def _check_whole(source: str, model: Any, tokenizer: Any, report: dict[str, Any]) -> None:
    # transformers fills what is missing with random numbers, and a missing tokenizer with an empty one.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"model {source!r}: {len(missing)} tensors are missing, such as {missing[0]}; {_INCOMPLETE}"
        )
    known = tokenizer.convert_tokens_to_ids("<|vision_start|>")
    if known != model.config.vision_start_token_id:
        raise ModelLoadError(
            f"model {source!r}: its tokenizer has <|vision_start|> as {known}, its configuration as "
            f"{model.config.vision_start_token_id}; {_INCOMPLETE}"
        )


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
