"""Who learns with whom: groups by what clients disagree about, kept only if they are shown to be of use.

Groups are found by a descriptor of each client, on shares. Whether they are of use is put to a test before any mean of
prompts: do the *other* members of a client's group predict its validation images better than all others do? Each
client compares class means of both kinds, none of its own images in either. A poll opens one bit of the answers:
whether a one-sided t-test rejects that the mean gain is `min_gain` at most. Validation images took no part in finding
the groups, so that groups of no use are kept with a probability of about `error`, whatever made them look like groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from secfpp.algorithms.base import ServerState
from secfpp.algorithms.class_sums import SharedSums
from secfpp.algorithms.residuals import class_residuals, feature_descriptor, spread
from secfpp.algorithms.sharing import EVERYBODY, GROUP, SharesClassSums
from secfpp.algorithms.training import ClientContext
from secfpp.algorithms.visual import UNKNOWN
from secfpp.errors import DropoutError, Problem, TamperError
from secfpp.models.class_means import linear
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, step

if TYPE_CHECKING:
    from secfpp.secure.clustering.clusterer import Clusterer

Descriptor = Literal["class_residuals", "features", "prompt"]


@dataclass(frozen=True, kw_only=True)
class FindsGroups(SharesClassSums):
    """The part of a method that groups its clients.

    Attributes:
        descriptor: what clients are grouped by: ``class_residuals`` (how their class means differ from everybody's),
            ``features`` (mean of class means of their image features) or ``prompt`` (the change of their domain part
            against the public start).
        directions: numbers per class in a descriptor of class residuals.
        proof: use groups only if they are shown to be of use; needs class means of groups.
        min_gain: mean gain in accuracy on validation images, in percentage points, above which they are.
        error: probability at most of using groups that are not, 0..0.5.
    """

    if TYPE_CHECKING:
        clusterer: Clusterer
        prior_smoothing: float

        def require(self, clients: int) -> None:
            """See `secfpp.algorithms.base.FederatedAlgorithm.require`."""

    descriptor: Descriptor = "class_residuals"
    directions: int = 16
    proof: bool = True
    min_gain: float = 1.0
    error: float = 0.05

    def grouping_problems(self) -> list[Problem]:
        """What is wrong with these settings."""
        problems = self.sharing_problems()
        if self.descriptor not in get_args(Descriptor):
            problems.append(Problem("descriptor", self.descriptor, ", ".join(get_args(Descriptor))))
        if self.directions < 1:
            problems.append(Problem("directions", self.directions, "at least 1"))
        if not 1e-6 <= self.error < 0.5:
            problems.append(Problem("error", self.error, "a probability from 1e-6 to below 0.5"))
        if not -100 < self.min_gain < 100:
            problems.append(Problem("min_gain", self.min_gain, "percentage points, between -100 and 100"))
        if self.descriptor == "class_residuals" and not self.class_means.shared:
            allowed = 'class_residuals needs class_means.levels = "group" or "all"; without, take features'
            problems.append(Problem("descriptor", self.descriptor, allowed))
        by_agreement = getattr(self.clusterer, "by_agreement", None)
        if by_agreement is not None and by_agreement != (self.descriptor == "class_residuals"):
            kinds, other = "secure_kmeans or plain_kmeans", "class_residuals"
            if not by_agreement:
                kinds, other = "secure_agreement or plain_agreement", "features"
            allowed = f'{self.descriptor} goes with {kinds}; or set descriptor = "{other}"'
            problems.append(Problem("clusterer.kind", self.clusterer.kind, allowed))
        return problems

    def prepare(self, clients: int, classes: int, seed: int) -> None:
        """See `secfpp.algorithms.base.FederatedAlgorithm.prepare`."""
        if self.descriptor == "class_residuals":
            self.clusterer.prepare(clients, classes * self.directions, seed)

    def first_descriptor(self, context: ClientContext) -> np.ndarray:
        """The descriptor before training, float32; zeros where it is not known yet."""
        if self.descriptor == "features":
            return feature_descriptor(context)
        size = context.start.size if self.descriptor == "prompt" else len(context.tokens.names) * self.directions
        return np.zeros(size, np.float32)

    def begin(self, state: ServerState, cohort: Cohort) -> Program[tuple[ServerState, Cohort]]:
        """Make everybody's sums, once a run, and say who has them: two sums would tell of whoever is in one of them.

        Raises:
            ConfigError, DropoutError: too few clients are left; nothing was made, and it can be done again.
        """
        if not self.class_means.shared:
            return state, cohort
        if not state.members:
            holders, made = yield from self.share_everybody(cohort)
            members = (len(made.members),) if made.members else ()
            return replace(state.after({EVERYBODY: made}), members=members), holders
        yield from self.aggregator.refresh(cohort, EVERYBODY, state.bases.get(EVERYBODY))
        held = yield from self.welcome(EVERYBODY, dict.fromkeys(cohort.clients, state.members[0]))
        return state, cohort.subset(held)

    def group(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Find groups of those who have everybody's sums, and test them; others get no group yet.

        Raises:
            ConfigError, DropoutError: too few clients are left; nothing is decided, and it can be done again.
            TamperError: somebody answered falsely; likewise.
        """
        everybody = sum(state.members)
        if self.class_means.shared:
            self.require(len(cohort))
        one = Assignment(dict.fromkeys(cohort.clients, 0))
        found = yield from self.clusterer.assign(cohort, "descriptor", None)
        if found.k == 1 or self.class_means.levels != "group":
            return replace(state, assignment=found, members=(everybody,), found=found)
        holders, made = yield from self.share_groups(cohort.subset(found.cluster_of), found)
        members = [len(own.members) for own in made]
        due = {client for client, s in found.cluster_of.items() if members[s]}
        try:
            useful = not self.proof or (yield from self._useful(holders))
        except TamperError:
            yield from self.tell_to_part(due)
            raise
        if useful:
            behind = frozenset(due.difference(holders.clients))
            state = replace(state, assignment=found, members=(everybody, *members), found=found, behind=behind)
            return state.after({f"{GROUP}-{s}": own for s, own in enumerate(made)})
        parted = yield from self.tell_to_part(due)
        return replace(state, assignment=one, members=(everybody,), found=found, behind=frozenset(due - parted))

    def _useful(self, holders: Cohort) -> Program[bool]:
        """Whether the groups of those who can compare are of use; they are not if too few are there to tell.

        It is not asked again: for that, groups would have to be found and their sums made a second time.
        """
        if len(holders) < self.poll.fewest:
            return False
        try:
            return (yield from self.poll.favours(holders, "gain", self.min_gain / 100, self.error))[0]
        except DropoutError:
            return False

    def tell_to_part(self, clients: Iterable[ClientId]) -> Program[frozenset[ClientId]]:
        """Tell clients that groups are of no use; who heard it."""
        return frozenset((yield Ask("method.part", {client: {} for client in sorted(clients)})))

    def adopted(self, context: ClientContext, state: ClientState, slot: str) -> ClientState:
        """The descriptor follows from everybody's sums, the gain from the group's."""
        everybody = self.shared_sums(context, state, EVERYBODY)
        if slot == EVERYBODY and everybody and self.descriptor == "class_residuals":
            own, _ = self.own_sums(context)
            descriptor = class_residuals(own, everybody, self.directions, self.class_means.shrinkage)
            about = {"descriptor.spread": np.array(spread(everybody, self.directions))}
            return state.replace(descriptor=descriptor.astype(np.float32), **about)
        group = self.shared_sums(context, state, GROUP)
        if slot == GROUP and everybody and group:
            return state.replace(gain=np.array(self.gain(context, everybody, group)))
        return state

    @step
    def part(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Forget the group's sums: groups are of no use."""
        return state.replace(**{f"{GROUP}.members": np.array(0)}), {}

    def gain(self, context: ClientContext, everybody: SharedSums, group: SharedSums) -> float:
        """How much more of the client's validation images its group predicts than all do, without its help: -1..1.

        0 for a client without validation images.
        """
        labels = context.data.validation.labels
        if not len(labels) or everybody.scatter is None:
            return 0.0
        own, _ = self.own_sums(context)
        settings, images = self.class_means, context.validation_features.cpu().numpy().astype(np.float64)
        precision = everybody.scatter.precision(settings.shrinkage)
        others, members = ((shared.classes - own).positive() for shared in (everybody, group))
        accuracies = []
        for group_ in (members, None):
            means = settings.shared_means(others, group_, precision)
            weights, bias = linear(means + own.style(means, settings.style_pull), precision)
            logits = UNKNOWN[1] * (images @ weights.T + bias) + context.log_prior(self.prior_smoothing)
            accuracies.append(float((logits.argmax(1) == labels).mean()))
        return accuracies[0] - accuracies[1]
