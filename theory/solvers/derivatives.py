"""First and second derivatives of any pair loss, elementwise over a whole table of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairDerivatives:
    """A loss and its derivatives in its inputs, each of the shape of the pair.

    Attributes:
        value: ℓ.
        gradient: ∂ℓ/∂a by input name a.
        hessian: ∂²ℓ/∂a∂b by names (a, b), both orders present.
    """

    value: Tensor
    gradient: dict[str, Tensor]
    hessian: dict[tuple[str, str], Tensor]


def pair_derivatives(loss: Callable[..., Tensor], inputs: Mapping[str, Tensor]) -> PairDerivatives:
    """Differentiate an elementwise ``loss(**inputs)`` twice by k + 1 reverse passes for k inputs.

    Because the loss of one pair depends on that pair's inputs alone, the gradient of the sum is
    every pair's own gradient, whatever the objective.

    Args:
        loss: elementwise function of the named inputs.
        inputs: tensors of one shape.

    Returns:
        Derivatives of that shape.
    """
    names = list(inputs)
    leaves = [inputs[name].detach().requires_grad_() for name in names]
    with torch.enable_grad():
        value = loss(**dict(zip(names, leaves, strict=True)))
        first = _grad(value, leaves, create_graph=True)
        rows = [_grad(g, leaves[i:]) for i, g in enumerate(first)]
    hessian = {}
    for i, row in enumerate(rows):
        for j, second in enumerate(row, start=i):
            hessian[names[i], names[j]] = hessian[names[j], names[i]] = second
    return PairDerivatives(value.detach(), dict(zip(names, (g.detach() for g in first), strict=True)), hessian)


def _grad(output: Tensor, leaves: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    """Gradients of the sum of ``output``; zeros where it does not depend on a leaf."""
    if not output.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(
        output,
        leaves,
        grad_outputs=output.new_ones(()).expand_as(output),
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(found)
