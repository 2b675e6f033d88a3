"""Entropic partial optimal transport from the patches of images to two prompts, for many images and classes at once."""

from __future__ import annotations

import torch
from torch import Tensor

_FARTHEST = 70.0
"""In epsilons: exp of minus this, and its reciprocal, are far within float32."""


@torch.no_grad()
def transport_plans(similarity: Tensor, *, mass: float, epsilon: float, tolerance: float, iterations: int) -> Tensor:
    """Plans T, float [2, patches, n]: each the least of <T, 1 - similarity> - epsilon H(T), of n alone.

    Each column of a plan sums to mass / 2, each of its m rows to 1 / m at most, so that `mass` of an image is used and
    the rest left out (FedOTP, arXiv 2403.00041). Scalings u (of rows, at most 1) and v (of columns) are
    made right in turn, a generalised Sinkhorn iteration (Benamou et al., SIAM J. Sci. Comput. 37, 2015). A column's
    scale takes up whatever is subtracted from its costs, so the least of them is; and costs that are `_FARTHEST`
    epsilons above it count as so much. So no number leaves the range of float32.

    Args:
        similarity: cosines of patches with the class features of both prompts, float [2, patches, n].
        mass: above 0 and at most 1.
        epsilon: weight of the entropy H.
        tolerance: a plan is done when an iteration changes both its v by a smaller share; then they stay as they are.
        iterations: most iterations.
    """
    row, column = 1 / similarity.shape[1], mass / 2
    kernel = ((similarity - similarity.amax(1, keepdim=True)) / epsilon).clamp_(min=-_FARTHEST).exp_()
    first, second = kernel
    scale = torch.ones_like(similarity[:, 0])
    waiting = torch.ones_like(scale[0], dtype=torch.bool)
    u, part = torch.empty_like(first), torch.empty_like(first)

    def scaled(v: Tensor) -> Tensor:
        """The v that makes the columns right, under the u that makes the rows right with the given v; u is left."""
        torch.mul(first, v[0], out=u).addcmul_(second, v[1]).reciprocal_().mul_(row).clamp_(max=1)
        sums = [torch.mul(of, u, out=part).sum(0) for of in (first, second)]
        return column / torch.stack(sums)

    for _ in range(iterations):
        new = scaled(scale)
        changed = (new / scale - 1).abs().amax(0) >= tolerance
        scale = torch.where(waiting, new, scale)
        waiting &= changed
        if not waiting.any():
            break
    new = scaled(scale)
    return kernel.mul_(u).mul_(new[:, None])
