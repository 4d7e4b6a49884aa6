"""Weights that are read together, laid side by side in memory.

The modules of transformers keep their parameters: each becomes a view of the joined memory, with the same values.
Nothing is stored twice, and the same model object goes on running natively.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Rows of matrices in half precision must begin at multiples of 16 bytes for the tensor cores' fast paths.
_ALIGNED = 8


@torch.no_grad()
def join(linears: Sequence[Any], rows: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of several `nn.Linear` above each other: (all outputs, inputs) and (all outputs,).

    With `rows`, each of them is given that many; those that it has not got are zeros.
    """
    weights = [m.weight for m in linears]
    sizes = [rows or w.shape[0] for w in weights]
    whole = weights[0].new_zeros(sum(sizes), weights[0].shape[1])
    biased = linears[0].bias is not None
    biases = weights[0].new_zeros(sum(sizes)) if biased else None
    start = 0
    for module, size in zip(linears, sizes, strict=True):
        end = start + module.weight.shape[0]
        whole[start:end] = module.weight
        module.weight.data = whole[start:end]
        if biases is not None:
            biases[start:end] = module.bias
            module.bias.data = biases[start:end]
        start += size
    return whole, biases


@torch.no_grad()
def widen(linear: Any, columns: int) -> Tensor:
    """The weight of an `nn.Linear` with zeros for further inputs: (outputs, columns)."""
    weight = linear.weight
    if weight.shape[1] == columns:
        present: Tensor = weight.data
        return present
    whole: Tensor = weight.new_zeros(weight.shape[0], columns)
    whole[:, : weight.shape[1]] = weight
    weight.data = whole[:, : weight.shape[1]]
    return whole


def aligned(width: int) -> int:
    """The next width whose rows are aligned."""
    return -(-width // _ALIGNED) * _ALIGNED
