"""From an experiment's config to a run that parties can agree on, and what the run asks of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.crypto.roster import Roster
from secfpp.data.federated import FederatedDataset
from secfpp.deploy.agreed import Agreed
from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.config import ExperimentConfig
from secfpp.grey_depth import GreyWindow
from secfpp.images import SIZE

WHOLE = "data"
"""Stands for the classes of the config's own data set."""


def agreed_from(
    config: ExperimentConfig,
    roster: Roster,
    classes: Sequence[str],
    template: str,
    digest: str,
    *,
    method: str = "",
    fewest: int | None = None,
    deadline: float = 60.0,
    figures: bool = False,
    image_size: int = SIZE,
    grey_window: GreyWindow | None = None,
) -> Agreed:
    """The run of a config, as parties agree on it.

    Args:
        config: method, seed, rounds and model; its data stay out.
        roster: who takes part.
        classes: all class names, in order.
        template: the hand-written prompt that training starts from.
        digest: of the model's content.
        method: label of a method or variant; the config's own by default.
        fewest: sites with which a round is run at least; as few as the method takes by default.
        deadline: seconds that a site has for an answer.
        figures: whether sites' accuracies are averaged, and the server is told the mean.
        image_size: side in pixels at which images are read.
        grey_window: which grey values of more than 8 bits are black and white.

    Raises:
        ConfigError: what a deployed run cannot have, all of it.
    """
    problems = []
    if len(config.seeds) != 1:
        problems.append(Problem("seeds", list(config.seeds), "one seed: give it with --set seed=NUMBER"))
    if config.participation != 1:
        problems.append(Problem("participation", config.participation, "1: all sites that answer take part"))
    if config.held_out:
        problems.append(Problem("held_out", config.held_out, "0: nobody knows true groups in a deployment"))
    if problems:
        raise ConfigError(problems)
    label = method or config.method.name
    algorithm = config.choose([label])[label]
    return Agreed(
        run=roster.run,
        roster=roster.fingerprint,
        seed=config.seeds[0],
        rounds=config.rounds,
        fewest=_fewest(algorithm, len(roster.keys)) if fewest is None else fewest,
        deadline=deadline,
        figures="mean" if figures else "none",
        template=template,
        classes=tuple(classes),
        backbone=config.backbone.name,
        backbone_digest=digest,
        algorithm=algorithm,
        image_size=image_size,
        grey_window=grey_window,
    )


class Pixels(TypedDict):
    """How images are read: `image_size`, a side in pixels, and `grey_window`, values that are black and white."""

    image_size: int
    grey_window: GreyWindow | None


def pixels_of(data: FederatedDataset | object) -> Pixels:
    """How the images of a loaded data set were read, or those of a data set's settings would be."""
    if isinstance(data, FederatedDataset):
        return {"image_size": data.image_size, "grey_window": data.grey_window}
    return {"image_size": getattr(data, "size", SIZE), "grey_window": getattr(data, "grey_window", None)}


def _fewest(algorithm: FederatedAlgorithm, sites: int) -> int:
    """The fewest sites of `sites` with which the method can do a round, at least 2."""
    for n in range(2, sites):
        try:
            algorithm.require(n)
        except ConfigError:
            continue
        return n
    algorithm.require(sites)
    return max(2, sites)


def leaves(agreed: Agreed) -> list[str]:
    """What leaves a site in this run, a line for each kind; what is not named stays."""
    method = agreed.algorithm
    found = ["how many training images this site has: to the server, which weighs by it"]
    if method.class_means.shared:
        least = method.class_means.min_holders
        found.append(
            f"sums of image features of each class that {least} sites or more have, averaged with theirs: "
            f"{_seen(method, 'aggregator')}"
        )
    privacy = getattr(method, "privacy", None)
    if hasattr(method, "averaged") and not (privacy is not None and privacy.of_sums):
        found.append(f"changes of the shared prompt, averaged with other sites': {_seen(method, 'aggregator')}")
    clusterer = getattr(method, "clusterer", None)
    if clusterer is not None and clusterer.kind not in ("one", "random"):
        told = "; the server learns who is in a group with whom"
        found.append(f"a description of this site, by which it is grouped: {_seen(method, 'clusterer')}{told}")
    if hasattr(method, "poll") and method.class_means.shared:
        told = "; the server learns the outcome of all together"
        found.append(f"answers of yes or no, such as which classes it has: {_seen(method, 'poll')}{told}")
    if agreed.figures == "mean":
        found.append(
            f"accuracies on its own images, averaged with other sites' for all to know: {_seen(method, 'aggregator')}"
        )
    if (terms := method.privacy_terms) is not None:
        cost = f"epsilon {privacy.epsilon:g}, " if privacy is not None else ""
        found.append(f"under differential privacy of one {terms.unit}: {cost}delta {terms.delta:g} in this run")
        found += [f"not covered by that: {each}" for each in method.not_covered]
    return found


def _seen(method: FederatedAlgorithm, name: str) -> str:
    """Who can read what goes through a part of the method."""
    part = getattr(method, name, None)
    if part is None or not part.needs_keys:
        return "IN THE CLEAR, the server sees this site's own"
    revealed = getattr(part, "reveal", "partition")
    verified = ", also if the server sends false values" if getattr(part, "security", None) == "active" else ""
    opened = "" if revealed == "partition" else f", but {revealed} are opened"
    return f"as shares that nobody can read alone{verified}{opened}"
