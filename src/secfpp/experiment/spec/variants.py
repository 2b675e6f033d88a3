"""Variants that every config and `Personalizer` know: methods with some settings changed, under names of their own.

A name says what is added or changed behind a ``+``, or the value of the one setting that differs behind an ``@``. A
config may define others, and these anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm


@dataclass(frozen=True)
class Variant:
    """What a variant is `about`, its `base` (a method or another variant), and the `settings` that differ from it."""

    about: str
    base: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> dict[str, Any]:
        """As a config would have it in ``[variants."name"]``."""
        return {"base": self.base, **self.settings}


_ONE_STEP = {"steps": 1, "optimizer": "sgd", "momentum": 0.0}
"""A round's training where each step is under noise."""
_FOR_STEPS = {"clip": 10.0, "bits": 32}
"""A mean that takes long steps as they are."""
_FOR_NOISE = {"kind": "secure", "clip": 128.0, "bits": 16}
"""A mean that takes updates with the noise that hides a client at epsilon 8, of up to 8,192 numbers."""

KNOWN: Mapping[str, Variant] = {
    "promptfl+logit_adjusted": Variant(
        "Trained on the logit-adjusted loss (arXiv 2007.07314)", "promptfl", {"logit_adjustment": 1.0}
    ),
    "promptfl@0.04": Variant(
        "At the learning rate that suits it best where domains agree", "promptfl", {"training": {"lr": 0.04}}
    ),
    "promptfl+client_dp": Variant(
        "Averages under noise, epsilon 8 for all that a client has; for hundreds of clients",
        "promptfl",
        {"privacy": {"mechanism": "prompts"}, "aggregator": _FOR_NOISE},
    ),
    **{
        f"promptfl+dpsgd@{epsilon}": Variant(
            f"Each step under noise at the client, epsilon {epsilon} for one image",
            "promptfl",
            {
                "privacy": {"mechanism": "dpsgd", "epsilon": float(epsilon), "releases": 20},
                "training": {**_ONE_STEP, "lr": rate},
            },
        )
        for epsilon, rate in ((8, 1.0), (4, 1.0), (2, 0.5), (1, 0.3))
    },
    **{
        f"promptfl+central_dp@{epsilon}": Variant(
            f"A server that is trusted adds noise to sums of gradients, epsilon {epsilon} for one image",
            "promptfl",
            {
                "privacy": {"mechanism": "central", "epsilon": float(epsilon), "releases": 10, "clip": 3.0},
                "training": {**_ONE_STEP, "lr": 1.0},
                "aggregator": _FOR_STEPS,
            },
        )
        for epsilon in (8, 4, 2)
    },
    **{
        f"dp_fpl@{epsilon}": Variant(
            f"Noise at a trusted server and in local parts, epsilon {epsilon} for one image",
            "dp_fpl",
            {
                "privacy": {"mechanism": "central", "epsilon": float(epsilon), "releases": 10, "clip": 3.0},
                "training": {**_ONE_STEP, "lr": 1.0},
                "local_lr": rate,
                "aggregator": _FOR_STEPS,
            },
        )
        for epsilon, rate in ((8, 0.5), (4, 0.4), (2, 0.3))
    },
    **{
        f"dp_fpl+published@{printed}": Variant(
            f"The noise of the authors' code, whose formula says epsilon {printed}; the report says what it is",
            "dp_fpl",
            {
                "privacy": {"mechanism": "published", "epsilon": printed, "releases": 20},
                "training": {**_ONE_STEP, "batch": 32, "lr": 0.001},
                "aggregator": _FOR_STEPS,
            },
        )
        for printed in (0.1, 0.4)
    },
    "coop_local+logit_adjusted": Variant(
        "Trained on the logit-adjusted loss (arXiv 2007.07314)", "coop_local", {"logit_adjustment": 1.0}
    ),
    "coop_local+means": Variant(
        "And the client's own class means: what can be had alone", "coop_local", {"class_means": {"levels": "own"}}
    ),
    **{
        f"{name}+means": Variant("And the client's own class means", name, {"class_means": {"levels": "own"}})
        for name in ("fedpgp", "ifca_prompt", "promptfolio", "fedotp", "fedpha")
    },
    "secfpp+clear": Variant(
        "A server that sees descriptors and updates: the same bits, faster",
        "secfpp",
        {
            "clusterer": {"kind": "plain_agreement"},
            "aggregator": {"kind": "plain", "min_responders": 4, "most_weight": 0.5},
            "poll": {"kind": "plain"},
        },
    ),
    **{
        f"secfpp+dp@{epsilon}": Variant(
            f"Class sums under noise, epsilon {epsilon} for one image; no prompt is shared",
            "secfpp",
            {"privacy": {"mechanism": "class_means", "epsilon": float(epsilon)}},
        )
        for epsilon in (8, 4, 2)
    },
    "secfpp+client_dp": Variant(
        "Averages of prompts under noise, epsilon 8 for all that a client has; one group, nothing else is shared",
        "secfpp",
        {
            "privacy": {"mechanism": "prompts"},
            "aggregator": _FOR_NOISE,
            "clusterer": {"kind": "one"},
            "class_means": {"levels": "own"},
            "descriptor": "features",
            "effort": 1.0,
        },
    ),
    "secfpp+one": Variant("Everybody in one cluster", "secfpp", {"clusterer": {"kind": "one"}}),
    "secfpp+random": Variant(
        "Six clusters by chance, which need not prove useful",
        "secfpp",
        {"clusterer": {"kind": "random"}, "proof": False},
    ),
    "secfpp+oracle": Variant("The true domains as clusters", "secfpp", {"clusterer": {"kind": "oracle"}}),
    "secfpp+features": Variant(
        "Grouped by style, the mean of a client's image features, in the clear",
        "secfpp+clear",
        {"descriptor": "features", "clusterer": {"kind": "plain_kmeans"}},
    ),
    "secfpp+no_private": Variant("Without the private part of the prompt", "secfpp", {"local_lr": 0.0}),
    "secfpp+joint": Variant(
        "Both parts trained in every round, one prompt at prediction",
        "secfpp",
        {"joint": True, "two_levels": False, "local_lr": 0.003, "domain_adjustment": 1.0},
    ),
}


def root(label: str) -> str:
    """The method that a variant begins from."""
    return root(KNOWN[label].base) if label in KNOWN else label


def variants() -> dict[str, FederatedAlgorithm]:
    """All variants that need no config, by name: each a method with its settings."""
    from secfpp.experiment.spec.config import parse_config

    return parse_config({}).choose(list(KNOWN))
