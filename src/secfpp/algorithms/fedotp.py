"""FedOTP (Li et al., arXiv 2403.00041): patches of an image are transported to a shared and a local prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secfpp.algorithms.two_prompts import TwoPrompts
from secfpp.models.pools import Transport
from secfpp.models.scoring import Predictor


@dataclass(frozen=True, kw_only=True)
class FedOTP(TwoPrompts):
    """Logits are the cosines of patches and both prompts under a partial transport plan; see `Transport`.

    The plan is made anew for each image and class in each step, and no gradient goes through it. The shared prompt is
    averaged, the local one stays at home.

    Attributes:
        mass: share of an image that is transported, half of it to each prompt; above 0 and at most 1.
        epsilon: weight of the plan's entropy against its cost.
        tolerance: a plan is done when an iteration changes its scaling by a smaller share.
        iterations: most iterations for a plan.
    """

    name: ClassVar[str] = "fedotp"

    mass: float = 0.8
    epsilon: float = 0.1
    tolerance: float = 1e-3
    iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.predictor  # its pool refuses what cannot be

    @property
    def predictor(self) -> Predictor:
        """How clients predict with their prompts."""
        pool = Transport(mass=self.mass, epsilon=self.epsilon, tolerance=self.tolerance, iterations=self.iterations)
        return Predictor(self.class_prior, self.prior_smoothing, pool=pool)
