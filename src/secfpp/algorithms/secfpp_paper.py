"""SecFPP as published (Hou, Li, Buyukates, arXiv 2505.22447), for comparison.

Domain and local part are trained alike on plain cross-entropy, and clients are grouped anew in every round by the
change of their prompts. The published reduction by a singular value decomposition of each client's own has no common
coordinates, so the public projection takes its place. The private class prior, which the paper does not have, applies
at prediction as for every method and can be switched off with `class_prior`. It groups in the clear unless told
otherwise, because it does so in every round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from secfpp.algorithms.grouping import Descriptor
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.visual import ClassMeans
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.clustering.plain_kmeans import PlainKMeans


@dataclass(frozen=True, kw_only=True)
class SecFPPPaper(SecFPP):
    """The additive pair as published: equal learning rates, plain loss, grouped by prompt change every round."""

    name: ClassVar[str] = "secfpp_paper"

    clusterer: Clusterer = field(default_factory=lambda: PlainKMeans(scale=48.0))
    descriptor: Descriptor = "prompt"
    cluster_every: int = 1
    class_means: ClassMeans = field(default_factory=ClassMeans)
    proof: bool = False
    effort: float = 1.0
    trust: float = 0.7
    joint: bool = True
    two_levels: bool = False
    averaged_rounds: int = 1
