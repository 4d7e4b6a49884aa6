"""What a checkpoint may not bring along: pickled weights, files from elsewhere, and code.

`trust_remote_code=False` and `use_safetensors=True` are not all of it: transformers reads every file that the index of
a checkpoint names, a pickled one as well, and fetches the attention kernels that a configuration names from the hub.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from stream_vl_ros.brief import shown
from stream_vl_ros.errors import ModelLoadError

_INDEX = "model.safetensors.index.json"
_SAFE = ".safetensors"
# Attention that PyTorch brings. Other names are looked for on the hub where the package `kernels` is installed.
_BUILT_IN = frozenset({"eager", "sdpa"})
# A key with which transformers takes weights, or an index of them, from another file.
_OTHER_WEIGHTS = "transformers_weights"
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})


def check_checkpoint(folder: str, source: str) -> None:
    """Raise `ModelLoadError` for a checkpoint that would have to be trusted.

    Args:
        folder: its folder, or its hub id.
        source: what the user called it.
    """
    from transformers.utils import cached_file

    def content(name: str) -> Any:
        path = cached_file(
            folder,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return {} if path is None else json.loads(Path(path).read_text())

    _check_pickled(Path(folder), source)
    try:
        shards, config = content(_INDEX).get("weight_map", {}).values(), content("config.json")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"model {source!r}: {_INDEX} or config.json cannot be read: {error}") from error
    for name in shards:
        if not isinstance(name, str) or PurePosixPath(name).name != name or not name.endswith(_SAFE):
            raise ModelLoadError(
                f"model {source!r}: its {_INDEX} names {shown(name)}; weights are loaded from {_SAFE} files in the "
                "checkpoint's own folder only, since others can run code; save it anew with `save_pretrained`"
            )
    for key, value in _implementations(config):
        if value not in _BUILT_IN:
            raise ModelLoadError(
                f"model {source!r}: its config.json has {key}={shown(value)}, which may be code from the hub; take it "
                f"out, or say one of {', '.join(sorted(_BUILT_IN))}"
            )
    if isinstance(config, dict) and _OTHER_WEIGHTS in config:
        raise ModelLoadError(
            f"model {source!r}: its config.json has {_OTHER_WEIGHTS}={shown(config[_OTHER_WEIGHTS])}; weights are "
            f"loaded from model{_SAFE}, or from what {_INDEX} names: take it out, and rename the files"
        )


def _check_pickled(folder: Path, source: str) -> None:
    if not folder.is_dir():
        return
    names = sorted(file.name for file in folder.iterdir())
    pickled = [name for name in names if PurePosixPath(name).suffix in _PICKLED]
    if pickled and not any(name.endswith((_SAFE, _INDEX)) for name in names):
        raise ModelLoadError(
            f"model {source!r}: its weights are pickled ({pickled[0]}), and a pickle can run code when it is read; "
            f"only {_SAFE} files are loaded: convert it where you trust it, with `save_pretrained`"
        )


def _implementations(config: object, named: str = "") -> Iterator[tuple[str, str]]:
    """Every text under a key that names how something is computed, in the parts of the configuration as well."""
    if isinstance(config, str) and named:
        yield named, config
    elif isinstance(config, dict):
        for key, value in config.items():
            yield from _implementations(value, key if "implementation" in key else named)
    elif isinstance(config, list):
        for value in config:
            yield from _implementations(value, named)
