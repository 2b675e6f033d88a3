"""Sums of image features that clients share: everybody's, and those of groups.

A class is in a sum only if enough clients have images of it (``class_means.min_holders``): a poll says which classes
those are, and how many have one stays hidden. The sum itself goes through the method's aggregator, every client with
the same weight, so that a secure one shows it to its members only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from secfpp.algorithms.class_sums import SharedSums, packed, packed_size, unpacked
from secfpp.algorithms.noisy_sums import NoisySums
from secfpp.algorithms.privacy import Privacy, noted, refused_mechanism
from secfpp.algorithms.record_privacy import not_covered
from secfpp.algorithms.training import ClientContext
from secfpp.errors import DropoutError, PrivacyError, Problem, ProtocolError, ReplyError
from secfpp.models.class_means import ClassSums, Scatter
from secfpp.models.scoring import Visual
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, batched, gather, step
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import Mean, version_of, with_base
from secfpp.secure.session import party_of

if TYPE_CHECKING:
    from secfpp.algorithms.visual import ClassMeans
    from secfpp.privacy.ledger import Terms
    from secfpp.secure.means.aggregator import Aggregator
    from secfpp.secure.polls.poll import Poll

EVERYBODY, GROUP = "everybody_sums", "group_sums"


@dataclass(frozen=True, kw_only=True)
class SharesClassSums:
    """The part of a method that shares class sums; needs its fields `aggregator`, `poll` and `class_means`.

    A client keeps sums in the slots ``everybody_sums`` and ``group_sums``, and in their ``.members`` how many clients
    they are of; 0 while there are none. In ``.charged`` are the round and the number of members of a release that is
    written down in the privacy ledger and not yet made, zeros else; in ``.least`` for how many members it was made.

    Attributes:
        privacy: what noise hides in the sums.
    """

    mechanisms: ClassVar[tuple[str, ...]] = ("none", "class_means")

    if TYPE_CHECKING:
        aggregator: Aggregator
        poll: Poll
        class_means: ClassMeans

    privacy: Privacy = field(default_factory=Privacy)

    def sharing_problems(self) -> list[Problem]:
        """What is wrong with these settings."""
        problems, least = refused_mechanism(self.privacy, self.mechanisms), self.class_means.min_holders
        allowed = self.poll.min_count
        if self.class_means.shared and least < allowed:
            problems.append(Problem("class_means.min_holders", least, f"at least poll.min_count = {allowed}"))
        if self.privacy.of_sums and not self.class_means.shared:
            wanted = 'class_means needs class_means.levels = "group" or "all": nothing else is covered; or "none"'
            problems.append(Problem("privacy.mechanism", self.privacy.mechanism, wanted))
        if self.privacy.of_sums and not isinstance(self.aggregator, SecureMean):
            wanted = "secure with privacy.mechanism = class_means: who sees each part of the noise sees too little"
            problems.append(Problem("aggregator.kind", self.aggregator.kind, wanted))
        return problems

    @property
    def privacy_terms(self) -> Terms | None:
        """See `secfpp.algorithms.base.FederatedAlgorithm.privacy_terms`."""
        return self.privacy.terms

    @property
    def not_covered(self) -> tuple[str, ...]:
        """See `secfpp.algorithms.base.FederatedAlgorithm.not_covered`."""
        clusterer = getattr(self, "clusterer", None)
        return not_covered(
            grouped=clusterer is not None,
            polls_in_clear=not self.poll.needs_keys,
            descriptors_in_clear=clusterer is not None and not clusterer.needs_keys,
        )

    def sums_state(self, context: ClientContext) -> ClientState:
        """The slots of a client that has nothing yet."""
        n_classes, dim = len(context.tokens.names), context.features.shape[1]
        sizes = {slot: packed_size(n_classes, dim, slot == EVERYBODY) for slot in (EVERYBODY, GROUP)}
        if self.privacy.of_sums:
            noisy = self.noisy_sums(context)
            unknown, room = self._unknown(self.aggregator.min_responders), 2.0 * self.class_means.images
            noisy.require_room(unknown, room)
            sizes = {slot: noisy.size(slot == GROUP) for slot in sizes}
        state = ClientState({"holds": (context.histogram > 0).astype(np.uint8)})
        for slot, size in sizes.items():
            state = with_base(state, slot, np.zeros(size))
            state = state.replace(**{f"{slot}.members": np.array(0)})
            if self.privacy.of_sums:
                state = state.replace(**{f"{slot}.charged": np.zeros(2, np.int64)})
        return state

    def share_everybody(self, cohort: Cohort) -> Program[tuple[Cohort, Mean]]:
        """Make everybody's sums; who holds them, and the mean that they are (of nobody: there are none)."""
        (bits,), cohort = yield from self._qualified(cohort, None)
        yield from self._charged(EVERYBODY, {client: len(cohort) for client in cohort.clients}, cohort.round)
        offered = yield Ask("method.offer", _offers(EVERYBODY, cohort, bits))
        made = yield from self._mean_of_all(cohort, offered, EVERYBODY)
        held = yield from self.welcome(EVERYBODY, dict.fromkeys(cohort.clients, len(made.members)))
        return cohort.subset(held), made

    def share_groups(self, cohort: Cohort, groups: Assignment) -> Program[tuple[Cohort, list[Mean]]]:
        """Make each group's sums; who holds them, and the mean that each is (of nobody: a group has none)."""
        bits, cohort = yield from self._qualified(cohort, groups)
        parts = [cohort.subset(set(cohort.clients) & set(groups.members(s))) for s in range(groups.k)]
        yield from self._charged(GROUP, {c: len(part) for part in parts for c in part.clients}, cohort.round)
        offers = {c: o for part, own in zip(parts, bits, strict=True) for c, o in _offers(GROUP, part, own).items()}
        offered = yield Ask("method.offer", offers)
        means = {
            f"group-{s}": self._mean_of_all(part, offered, GROUP, groups.members(s)) for s, part in enumerate(parts)
        }
        found = yield from gather(means)
        made = [found[f"group-{s}"] for s in range(groups.k)]
        members = {client: len(own.members) for part, own in zip(parts, made, strict=True) for client in part.clients}
        held = yield from self.welcome(GROUP, members)
        return cohort.subset(held), made

    def _mean_of_all(
        self, counted: Cohort, offered: Collection[ClientId], slot: str, group: Collection[ClientId] | None = None
    ) -> Program[Mean]:
        """The mean of all who were counted when it was asked which classes enough clients have, or none.

        Without one of them, a class could be in it that too few have.
        """
        if not set(counted.clients) <= set(offered):
            return Mean((), None)
        least = max(len(counted), self.aggregator.min_responders)
        strict: Aggregator = replace(self.aggregator, min_responders=least)  # type: ignore[type-var]
        alike = replace(counted, weights=dict.fromkeys(counted.clients, 1))
        return (yield from strict.mean(alike, slot, group=group))

    def _qualified(self, cohort: Cohort, groups: Assignment | None) -> Program[tuple[np.ndarray, Cohort]]:
        """The classes that enough clients of each group have, bool [groups, n_cls], and who is counted."""
        replies = yield Ask("method.classes", {client: {} for client in cohort.clients})
        told = replies.alike(_number("classes"), str)
        if not told:
            raise DropoutError("method.classes", 1, 0, replies.missing)
        n_classes = next(iter(told.values()))
        least = self.class_means.min_holders
        return (yield from self.poll.at_least(cohort.subset(told), "holds", n_classes, least, groups))

    def _charged(self, slot: str, members: Mapping[ClientId, int], round_: int) -> Program[None]:
        """Have clients write down what they are about to release to so many members, if they owe that."""
        if self.privacy.of_sums:
            about = {"slot": np.array(slot), "round": np.array(round_)}
            yield Ask("method.charge", {c: {**about, "members": np.array(n)} for c, n in members.items()})

    def welcome(self, slot: str, members: Mapping[ClientId, int]) -> Program[frozenset[ClientId]]:
        """Tell clients of how many the sum in `slot` is that they should hold by now; returns those who do hold one."""
        told: dict[ClientId, Arrays] = {c: {"slot": np.array(slot), "members": np.array(n)} for c, n in members.items()}
        replies = yield Ask("method.adopt", told)
        return frozenset(client for client, held in replies.readable(_number("held")).items() if held)

    @step
    def classes(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the number of classes."""
        return state, {"classes": np.array(len(context.tokens.names))}

    @step
    def charge(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Write the release of a sum down in the privacy ledger, before it is made; replies nothing."""
        return self.charge_many([context], [state], [payload])[0]

    @batched(charge)
    def charge_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`charge` for several clients, of one ledger, in one entry for each release.

        Raises:
            PrivacyError: there is no ledger, or the budget of a client does not allow the release.
        """
        asked = [(_slot_in(p), integer_in(p, "round"), integer_in(p, "members")) for p in payloads]
        charged: dict[ClientId, ClientState] = {}
        for slot, round_ in sorted({(slot, round_) for slot, round_, _ in asked}):
            own = [i for i, one in enumerate(asked) if one[:2] == (slot, round_)]
            ledger, clients = contexts[own[0]].ledger, [contexts[i].client for i in own]
            if ledger is None or any(contexts[i].ledger is not ledger for i in own):
                raise PrivacyError("nothing is released under differential privacy without a ledger in the context")
            event = self.noisy_sums(contexts[own[0]]).release(slot == GROUP).event
            ledger.charge(event, clients, round_)
            for i, client in zip(own, clients, strict=True):
                owed = {f"{slot}.charged": np.array([round_, asked[i][2]])}
                charged[client] = noted(states[i].replace(**owed), round_, event)
        return [(charged[context.client], {}) for context in contexts]

    @step
    def offer(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Make this client's part of a sum of these classes, and keep it to be averaged; replies nothing."""
        if not self.class_means.shared:
            raise ProtocolError("asked for a part of class sums, which are not shared here (class_means.levels)")
        slot, classes = _slot_in(payload), payload.get("classes")
        if classes is None or classes.shape != context.histogram.shape or classes.dtype != np.bool_:
            raise ProtocolError(f"step 'method.offer': no list of {len(context.histogram)} classes came with it")
        if self.privacy.of_sums:
            state, vector = self._noisy_vector(context, state, slot, classes, integer_in(payload, "round"))
        else:
            sums, scatter = self.own_sums(context)
            vector = packed(sums.only(classes), scatter if slot == EVERYBODY else None, self.sums_scale)
        fresh = with_base(state, slot, np.zeros_like(vector), integer_in(payload, "round"))
        return fresh.replace(**{slot: vector, f"{slot}.members": np.array(0)}), {}

    def _noisy_vector(
        self, context: ClientContext, state: ClientState, slot: str, classes: np.ndarray, round_: int
    ) -> tuple[ClientState, np.ndarray]:
        """The client's part of a sum with its part of the noise, for which the ledger was charged in this round.

        Raises:
            ProtocolError: it was not, or everybody's sum is not there yet to take the group's around.
        """
        charged, members = state[f"{slot}.charged"].tolist()
        if not members or charged != round_:
            raise ProtocolError(f"asked for a part of {slot!r} that was not written down in the privacy ledger before")
        noisy, labels = self.noisy_sums(context), context.data.train.labels
        shared = classes[labels]
        features, labels = context.features.cpu().numpy()[shared], labels[shared]
        if slot == EVERYBODY:
            vector = noisy.for_everybody(features, labels)
        else:
            vector = noisy.for_group(features, labels, self._everybodys_means(context, state))
        integers = noisy.with_noise(vector, classes, self._unknown(members), party_of(context).entropy)
        made = {f"{slot}.charged": np.zeros(2, np.int64), f"{slot}.least": np.array(members)}
        return state.replace(**made), integers * self._codec_step

    def _everybodys_means(self, context: ClientContext, state: ClientState) -> np.ndarray:
        everybody = self.shared_sums(context, state, EVERYBODY)
        if everybody is None or everybody.scatter is None:
            raise ProtocolError("asked for a part of a group's sum before everybody's sum has come")
        precision = everybody.scatter.precision(self.class_means.shrinkage)
        return self.class_means.shared_means(everybody.classes, None, precision)

    def noisy_sums(self, context: ClientContext) -> NoisySums:
        """How the client's part of sums is made, and sums are read, under differential privacy."""
        return NoisySums(
            self.privacy,
            len(context.tokens.names),
            context.features.shape[1],
            self.sums_scale * self._codec_step,
            self.class_means.levels == "group",
            self.class_means.images,
            self.class_means.min_holders,
        )

    @property
    def _codec_step(self) -> float:
        assert isinstance(self.aggregator, SecureMean)
        return self.aggregator.codec.step

    def _unknown(self, members: int) -> int:
        """How many members' parts of the noise nobody knows, if all who may collude do.

        Raises:
            ProtocolError: of fewer members there is no sum.
        """
        if members < self.aggregator.min_responders:
            raise ProtocolError(f"a sum of {members} members, this client insists on {self.aggregator.min_responders}")
        return members - self.aggregator.colluding

    @step
    def adopt(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take note of how many clients a sum is of; what follows from it is computed here. Replies whether it came."""
        slot, members = _slot_in(payload), integer_in(payload, "members")
        if not members or version_of(state, slot) % 2:  # an odd version is a start, an even one a mean
            return state, {"held": np.array(0)}
        return self.adopted(context, state.replace(**{f"{slot}.members": np.array(members)}), slot), {
            "held": np.array(1)
        }

    def adopted(self, context: ClientContext, state: ClientState, slot: str) -> ClientState:
        """The state of a client that has just been given the sum in `slot`."""
        return state

    @property
    def sums_scale(self) -> float:
        """What sums are divided by before they are averaged; see `secfpp.algorithms.class_sums`.

        The four parts of a vector are no longer than the images that they are of, together no longer than twice that.
        """
        clip = getattr(self.aggregator, "clip", 1.0)
        return 2 * self.class_means.images / clip

    def own_sums(self, context: ClientContext) -> tuple[ClassSums, Scatter]:
        """The client's own class sums and scatter, of its training images."""
        features, labels = context.features.cpu().numpy(), context.data.train.labels
        sums = ClassSums.of(features, labels, len(context.tokens.names))
        return sums, Scatter.of(features, labels, sums)

    def shared_sums(self, context: ClientContext, state: ClientState, slot: str) -> SharedSums | None:
        """What the client knows of a shared sum, if anything."""
        members = int(state[f"{slot}.members"]) if f"{slot}.members" in state else 0
        if not members:
            return None
        n_classes, dim, base = len(context.tokens.names), context.features.shape[1], state[f"{slot}.base"]
        if not self.privacy.of_sums:
            return unpacked(base, members, n_classes, dim, self.sums_scale)
        noisy, total, unknown = self.noisy_sums(context), base * (members * self.sums_scale), self._unknown(members)
        if slot == EVERYBODY:
            return noisy.read_everybody(total, members, unknown)
        return noisy.read_group(total, members, unknown, self._everybodys_means(context, state))

    def class_scorer(self, context: ClientContext, state: ClientState, levels: int) -> Visual | None:
        """Unweighted scores by class means on each level of the prompts, if the method has such."""
        if self.class_means.levels == "none":
            return None
        everybody = self.shared_sums(context, state, EVERYBODY) if self.class_means.shared else None
        if everybody is None:
            return self.class_means.scorer(context, levels)
        group = self.shared_sums(context, state, GROUP) if self.class_means.levels == "group" else None
        return self.class_means.scorer(
            context, levels, everybody.classes, None if group is None else group.classes, everybody.scatter
        )


def _number(name: str) -> Callable[[ClientId, Arrays], int]:
    """How a client's number of that name is read."""

    def read(client: ClientId, reply: Arrays) -> int:
        try:
            return integer_in(reply, name)
        except ProtocolError as error:
            raise ReplyError(client, f"sent no number {name!r}") from error

    return read


def _offers(slot: str, cohort: Cohort, classes: np.ndarray) -> dict[ClientId, Arrays]:
    offer: Arrays = {"slot": np.array(slot), "classes": np.asarray(classes, bool), "round": np.array(cohort.round)}
    return dict.fromkeys(cohort.clients, offer)


def _slot_in(payload: Arrays) -> str:
    slot = text_in(payload, "slot")
    if slot not in (EVERYBODY, GROUP):
        raise ProtocolError(f"{slot!r} is no sum that is shared: {EVERYBODY} or {GROUP}")
    return slot
