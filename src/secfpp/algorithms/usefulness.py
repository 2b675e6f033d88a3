"""Do clusters help? Everybody's mean against the clusters' means, judged by the clients' own validation images.

Both means are of the same local updates from the same base, so that one round decides between them: clients that
differ in style alone lose by being kept apart (fewer images behind each mean), clients that mean different things by
the same label gain much. Each client tells one clipped number, and only its average over all clients is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from secfpp.algorithms.training import ClientContext
from secfpp.errors import ProtocolError
from secfpp.models.scoring import cosine_logits
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, gather, step
from secfpp.secure.means.updates import with_base

if TYPE_CHECKING:
    from secfpp.secure.means.aggregator import Aggregator

LARGEST_GAIN = 0.25
"""What one client can claim at most, as a difference of accuracies 0..1."""


@dataclass(frozen=True, kw_only=True)
class UsefulClusters:
    """The part of a method on clusters that asks for a proof; averages the slot ``domain_prompt``.

    Attributes:
        common_rounds: rounds trained in one group, at the end of the last of which the found clusters must prove
            useful; 0 uses the clusters from the first round on, without a proof.
        min_gain: mean gain in validation accuracy, in percentage points, from which clusters count as useful.
    """

    if TYPE_CHECKING:
        aggregator: Aggregator
        prior_smoothing: float

    common_rounds: int = 3
    min_gain: float = 1.0

    def cluster_means(self, assignment: Assignment, cohort: Cohort) -> Mapping[str, Program[tuple[ClientId, ...]]]:
        """The programs that average inside each cluster, by label."""
        present = set(cohort.clients)
        groups = {f"cluster-{s}": cohort.subset(present & set(assignment.members(s))) for s in range(assignment.k)}
        return {label: self.aggregator.mean(group, "domain_prompt") for label, group in groups.items()}

    def prove(self, found: Assignment, cohort: Cohort) -> Program[Assignment | None]:
        """Finish a round with the better of both means.

        Returns:
            `found`, or one cluster of everybody; None, if nobody was left to say.

        Raises:
            ProtocolError: clients that disagree about one and the same average.
        """
        ready = cohort.subset((yield Ask("method.branch", {client: {} for client in cohort.clients})))
        means = dict(self.cluster_means(found, ready))
        yield from gather({**means, "common": self.aggregator.mean(ready, "common_prompt")})
        compared = cohort.subset((yield Ask("method.compare", {client: {} for client in ready.clients})))
        yield from self.aggregator.mean(compared, "gain")
        replies = yield Ask("method.settle", {client: {} for client in compared.clients})
        votes = {bool(reply["useful"]) for reply in replies.values() if "useful" in reply}
        if len(votes) > 1:
            raise ProtocolError("clients disagree whether the clusters are useful: they were sent different averages")
        if not votes:
            return None
        return found if votes.pop() else Assignment(dict.fromkeys(cohort.clients, 0))

    @step
    def branch(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Keep a second copy of the trained prompt and its base, for everybody's mean."""
        copies = {f"common_prompt{part}": state[f"domain_prompt{part}"] for part in ("", ".base", ".version")}
        return with_base(state, "gain", np.zeros(1, np.float32)).replace(**copies), {}

    @step
    def compare(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Measure what the cluster's mean gives over everybody's; the figure leaves in an average only."""
        apart, common = (self._accuracy(context, state[f"{slot}_prompt.base"]) for slot in ("domain", "common"))
        gain = np.clip(apart - common, -LARGEST_GAIN, LARGEST_GAIN)
        return state.replace(gain=np.array([gain], np.float32)), {}

    @step
    def settle(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Go on with the better prompt, and say which it is; a client without the average says nothing.

        Everybody's prompt gets a version of its own, so that a client that missed this is seen to lack it.
        """
        if int(state["gain.version"]) <= 1:
            return state, {}
        useful = float(state["gain"][0]) * 100 >= self.min_gain
        kept = {slot: array for slot, array in state.arrays.items() if not slot.startswith(("common_prompt", "gain"))}
        if not useful:
            kept |= {f"domain_prompt{part}": state[f"common_prompt{part}"] for part in ("", ".base")}
            kept["domain_prompt.version"] = state["common_prompt.version"] + 1
        return ClientState(kept), {"useful": np.array(useful)}

    def _accuracy(self, context: ClientContext, prompt: np.ndarray) -> float:
        """Accuracy 0..1 on the client's validation images with its class prior; 0 without any."""
        labels = context.data.validation.labels
        if not len(labels):
            return 0.0
        backbone = context.backbone
        with torch.no_grad():
            texts = backbone.class_features(torch.from_numpy(prompt).to(backbone.device)[None], context.tokens)
        logits = cosine_logits(context.validation_features, texts, backbone.logit_scale)[0].cpu().numpy()
        return float(((logits + context.log_prior(self.prior_smoothing)).argmax(1) == labels).mean())
