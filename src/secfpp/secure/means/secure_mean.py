"""The mean of updates that no server sees.

Every client shares its clipped, weighted update among the holders (`secfpp.crypto.sharing`). Holders agree on whose
updates count, add the shares, and seal the sums to all participants, who decode the sum and nothing else.

Assumptions: those of `secfpp.crypto.channel`; at most `threshold` holders work together with the server. They learn
the mean, as every participant does, who took part and with which weight, and no update. This holds against a server
that follows the protocol; one that does not is caught where it changes, moves or repeats messages, or tells holders
different things.

Shares are packed: a holder's share is one of l parts of an update long, and T + l of them, a quorum, give the sum.
More than T of them already tell something about it. That two quorums have an honest holder in common is
therefore not enough: sums over two sets that differ in one client, each held by too few to decode, together would
tell much of that client's update. So holders exchange tags that say which set they were told (it is no secret), and
none gives out its sum before a quorum has confirmed the same set (the consistency check of Bonawitz et al., Practical
Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import ClassVar

import numpy as np

from secfpp.crypto.bounds import Bound
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.randomness import Stream
from secfpp.errors import ConfigError, DropoutError, FieldRangeError, Problem, ProtocolError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, staggered, step
from secfpp.protocol.refusals import objections
from secfpp.secure import committee
from secfpp.secure.envelopes import others
from secfpp.secure.means.accepted import require_acceptable, require_members, require_shared_out
from secfpp.secure.means.aggregator import Aggregator, capped, check_codec, check_share
from secfpp.secure.means.batches import Intake, batches_of, handed_over
from secfpp.secure.means.bounded import Seeds, checked, committed
from secfpp.secure.means.client import MeanRun, code_for
from secfpp.secure.means.insiders import Insiders, let_in, of_terms, of_word, stated, word
from secfpp.secure.means.messages import attempt_in
from secfpp.secure.means.relay import RECEIVE, ForAll, Inclusion, Relay
from secfpp.secure.means.updates import (
    Base,
    Mean,
    agreed_base,
    base_in,
    base_of,
    caught_up,
    encoded_update,
    marked_as_given,
    moved,
    next_version,
    own_base,
    rebased,
    settled,
    settled_base,
    told_base,
)
from secfpp.secure.session import bind, forget, join, keep, kept, once, takes_part, terms, with_keys
from secfpp.secure.tasks import Task, step_of_many
from secfpp.settings import check_types


@dataclass(frozen=True)
class SecureMean(Aggregator):
    """The weighted mean, equal to `PlainMean`'s bit for bit, with a server that sees no update and no mean.

    Six exchanges (four without proofs), after those of key agreement if the cohort has no keys yet. A client that drops
    out is wholly in the mean or wholly out of it; up to ``holders - quorum`` holders may drop out. With fewer, or with
    fewer updates than `min_responders`, there is no mean and everybody goes back to its base. Late clients are as in
    `PlainMean`, and get the base sealed.

    Holders whose sums do not fit the others are found as long as redundant sums are left; members object to them and
    have the mean without them. A client whose shares are of no polynomial spoils all sums and cannot be named.

    Args:
        clip: L2 norm to which an update is shortened, positive.
        bits: fractional bits of the fixed-point encoding.
        threshold: how many holders may work together with the server; larger ones cost redundancy and length.
        min_responders: fewer updates than this give no mean; clients insist on it too. At least ``threshold + 2``, so
            that colluders who subtract their own updates are left with the sum of two.
        most_weight: largest share that one client has in a mean; one with more counts less, and clients insist on it:
            a mean in which one counts far more than the others shows its update.
        newcomers: whether a client lets others into its group that it has met in none. Who is known to be in another
            group is never let in, see `secfpp.secure.means.insiders`.
        bounded: whether clients prove on shares that their updates are clipped, see `secfpp.crypto.bounds`; who does
            not is left out.

    Raises:
        ConfigError: values that cannot work.
    """

    kind: ClassVar[str] = "secure"
    needs_keys: ClassVar[bool] = True

    clip: float = 2.5
    bits: int = 24
    threshold: int = 2
    min_responders: int = 4
    most_weight: float = 0.5
    newcomers: bool = True
    bounded: bool = True

    def __post_init__(self) -> None:
        check_types(self, "aggregator")
        check_codec(self.clip, self.bits)
        check_share(self.most_weight)
        problems = []
        if not 1 <= self.threshold <= committee.LARGEST - 2:
            problems.append(Problem("aggregator.threshold", self.threshold, f"1 to {committee.LARGEST - 2}"))
        if self.min_responders < self.threshold + 2:
            allowed = f"at least threshold + 2 = {self.threshold + 2}"
            problems.append(Problem("aggregator.min_responders", self.min_responders, allowed))
        if self.bounded and not problems:
            try:
                Bound(1, 1, self.codec.most_squares(1))
            except FieldRangeError as error:
                problems.append(
                    Problem("aggregator.clip, bits", (self.clip, self.bits), f"{error}, or bounded = false")
                )
        if problems:
            raise ConfigError(problems)

    def protection(self, n_clients: int) -> Mapping[str, object]:
        """What holds with `n_clients`: how many hold shares, and how many of them may collude with the server."""
        return {"holders": min(n_clients, committee.LARGEST), "threshold": self.threshold}

    @cached_property
    def codec(self) -> FixedPoint:
        """How updates are encoded."""
        return FixedPoint(self.clip, self.bits)

    @property
    def colluding(self) -> int:
        """See `Aggregator.colluding`."""
        return self.threshold

    def mean(
        self, cohort: Cohort, slot: str, known: Base | None = None, group: Collection[ClientId] | None = None
    ) -> Program[Mean]:
        """See `Aggregator.mean`.

        Raises:
            FieldRangeError: the cohort's weights could overflow the sum; nothing has been sent then.
        """
        self.codec.require_capacity(sum(cohort.weights.values()))
        try:
            keyed = yield from with_keys(cohort)
        except DropoutError:
            keyed = cohort.subset(())
        if len(keyed) < self.min_responders:
            asked = keyed.clients or cohort.clients
            yield Ask("aggregator.keep", {client: {"slot": np.array(slot)} for client in asked})
            return Mean((), known)
        seeds = [Seeds() for _ in batches_of(keyed.clients, ())]
        about = {
            "task": "mean",
            "slot": slot,
            "weights": list(capped(keyed.weights, self.most_weight).values()),
            "clip": self.clip,
            "bits": self.bits,
            "threshold": self.threshold,
            "min_responders": self.min_responders,
            **stated(group),
            "bounded": self.bounded,
            **(committed(seeds) if self.bounded else {}),
        }
        relay = Relay(terms("aggregator", keyed, about))
        intake = Intake(relay, known, self.threshold)
        yield from staggered(self._taken_in(intake, seeds))
        present, members = intake.present, intake.members
        late = [client for client, base in sorted(intake.told.items()) if base != present]
        served = [client for client in relay.clients if client not in set(late)]
        sums = ForAll()
        if present is not None and len(members) >= self.min_responders:
            inclusion = Inclusion.write(members, present, relay.clients)
            sums = yield from self._sums(intake, members, inclusion)
        if sums.envelopes:
            payloads = relay.sums_for_clients(sums, served, inclusion)
            unaware = [client for client in served if client not in intake.told]
            payloads |= {client: {**payloads[client], **relay.terms_for(client)} for client in unaware}
        else:
            payloads = {client: {"slot": np.array(slot), "attempt": relay.attempt} for client in served}
        having = members or [client for client, base in intake.told.items() if base == present]
        sponsor = next((client for client in having if client in relay.holders), None)
        if late and sponsor:
            payloads[sponsor] = {**payloads[sponsor], "late": np.array(json.dumps(late))}
        acks = yield Ask("aggregator.receive" if sums.envelopes else "aggregator.keep", payloads)
        left = settled_base(acks.readable(base_in), members, self.threshold) if sums.envelopes else present
        if late and having and left is not None:
            if sponsor:
                yield from relay.catch_up(sponsor, acks, late, left)
            else:
                yield from self._shown(keyed.subset([having[0], *late]), having[0], slot, left, group)
        return Mean(members if sums.envelopes else (), left)

    def _taken_in(self, intake: Intake, seeds: Sequence[Seeds]) -> list[Program[None]]:
        """The programs by which batches share, and prove that what they share is clipped."""
        if not self.bounded:
            return [handed_over(intake, number) for number in range(len(seeds))]
        code = code_for(len(intake.relay.holders), self.threshold)
        least = self.min_responders if len(seeds) == 1 else 1
        return [checked(intake, number, code, self.codec, one, least) for number, one in enumerate(seeds)]

    def _sums(self, intake: Intake, members: Sequence[ClientId], inclusion: np.ndarray) -> Program[ForAll]:
        """The holders' sealed sums; none if there are too few of them."""
        relay, holders = intake.relay, intake.holders
        need = committee.quorum(len(relay.holders), self.threshold)
        if len(holders) < need:
            return ForAll()
        common = {"attempt": relay.attempt, "inclusion": inclusion}
        sealed = {"envelopes": {member: intake.left[member] for member in members}} if intake.left else {}
        confirmed = yield Ask("aggregator.agree", {h: {**common, **relay.for_holder(h, sealed)} for h in holders})
        echoes = relay.rows(confirmed, "echoes", relay.holders)
        if len(echoes) < need:
            return ForAll()
        given = yield Ask("aggregator.sum", relay.echoes_for_holders(echoes))
        sums = relay.for_all(given, relay.clients)
        return sums if len(sums.envelopes) >= need else ForAll()

    def refresh(
        self, cohort: Cohort, slot: str, known: Base | None = None, group: Collection[ClientId] | None = None
    ) -> Program[None]:
        """See `Aggregator.refresh`: one small exchange, two more (and key agreement) if somebody is late."""
        replies = yield Ask("aggregator.tell", {client: {"slot": np.array(slot)} for client in cohort.clients})
        told = replies.readable(base_in)
        present = agreed_base(told, self.threshold, known)
        late = [client for client, base in told.items() if base != present]
        if not late or present not in told.values():
            return
        assert present is not None
        sponsor = next(client for client, base in told.items() if base == present)
        few = yield from with_keys(cohort.subset([sponsor, *late]), size=len(late) + 1)
        if sponsor in few.weights and len(few) > 1:
            yield from self._shown(few, sponsor, slot, present, group)

    def _shown(
        self, few: Cohort, sponsor: ClientId, slot: str, present: Base, group: Collection[ClientId] | None
    ) -> Program[None]:
        """Have a sponsor seal the present base for the others of `few`, who are late."""
        about = {"task": "base", "slot": slot, **stated(group)}
        relay, late = Relay(terms("aggregator", few, about, holders=[sponsor])), others(sponsor, few.clients)
        payload = {**relay.agreed, "attempt": relay.attempt, "late": np.array(json.dumps(late))}
        shown = yield Ask("aggregator.show", {sponsor: payload})
        yield from relay.catch_up(sponsor, shown, late, present, first=True)

    @step
    def tell(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply which base this client has."""
        return state, told_base(state, text_in(payload, "slot"))

    @step_of_many
    def share(self, context: object, state: ClientState, payload: Arrays) -> Task[tuple[ClientState, Arrays]]:
        """Reply a sealed share of the weighted, clipped update for every other holder, and of which base it is."""
        run = self._join(context, state, payload, "mean")
        require_members(run, state)
        once(run.place, f"share of {run.slot}")
        if run.place.holders != run.place.clients:  # other holders would not remember whose sum was given before
            bind(run.place, f"share of {run.slot}", [run.place.clients, run.place.holders])
        state = marked_as_given(state, run.slot)
        encoded = encoded_update(state, run.slot, self.codec, run.weight(run.name))
        base = own_base(state, run.slot)
        envelopes = yield from run.seal_shares(encoded, base, Stream.fresh(run.place.party.entropy))
        return state, {"envelopes": envelopes, **told_base(state, run.slot)}

    @step_of_many
    def prove(self, context: object, state: ClientState, payload: Arrays) -> Task[tuple[ClientState, Arrays]]:
        """Reply a sealed share, for every other holder, of a proof that the update is clipped."""
        run = self._run(context, state, payload, "mean", "prove")
        envelopes = yield from run.seal_proof(payload, Stream.fresh(run.place.party.entropy))
        return state, {"envelopes": envelopes}

    @step_of_many
    def check(self, context: object, state: ClientState, payload: Arrays) -> Task[tuple[ClientState, Arrays]]:
        """Answer about the proofs of the clients that are named, which says whether they hold and nothing else."""
        run = self._run(context, state, payload, "mean", "check")
        answers = yield from run.answer(payload, base_of(state, run.slot).size)
        return state, {"answers": answers}

    @step
    def agree(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Add the shares of those who are said to be in the mean, and tell the other holders who that is."""
        run = self._run(context, state, payload, "mean", "agree")
        return state, {"echoes": run.take_shares(payload, base_of(state, run.slot).size, run.least)}

    @step
    def take(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take in shares of the clients that are named, where nothing is proven."""
        run = self._run(context, state, payload, "mean", "take")
        run.take_in(payload, base_of(state, run.slot).size)
        return state, {}

    @step
    def sum(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Seal the sum of the shares to all participants, once a quorum of holders was told the same."""
        run = self._run(context, state, payload, "mean", "sum")
        return state, run.seal_sums(payload)

    @step
    def receive(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Decode the mean, add it to the base, tell which it is; who has another base goes back to its own and waits.

        Objects to holders whose sums are wrong; the mean is right without them.
        """
        run = self._run(context, state, payload, "mean", "receive")
        forget(context, run.place.attempt)
        base, own = base_of(state, run.slot), own_base(state, run.slot)
        inclusion = Inclusion.read(payload.get("inclusion"), len(run.place.clients), run.least, RECEIVE)
        if own != inclusion.base:
            return settled(state, run.slot), told_base(state, run.slot)
        total, wrong = run.open_sum(payload, inclusion, base.size)
        weight = sum(compress(run.place.about["weights"], inclusion.chosen))
        new = moved(base, total.reshape(base.shape), self.codec, weight)
        state = let_in(state, run.slot, self._insiders(run, state))
        state = rebased(state, run.slot, new, next_version(own.version, int(run.place.about["round"])))
        objected = objections(dict.fromkeys(wrong, TamperError.reason))
        return state, {**told_base(state, run.slot), **objected, **run.seal_base(payload, new, word(state, run.slot))}

    @step
    def keep(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Go back to the base: there was no mean."""
        slot = text_in(payload, "slot")
        base = base_of(state, slot)
        reply: Arrays = {}
        if "late" in payload:
            run = self._run(context, state, payload, "mean", "keep")
            state = let_in(state, slot, self._insiders(run, state))
            reply = run.seal_base(payload, base, word(state, slot))
        if "attempt" in payload:
            forget(context, attempt_in(payload))
        return settled(state, slot), {**told_base(state, slot), **reply}

    @step
    def show(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Seal the base for members that lack it."""
        run = self._run(context, state, payload, "base", "show")
        forget(context, run.place.attempt)
        state = let_in(state, run.slot, self._insiders(run, state))
        return state, run.seal_base(payload, base_of(state, run.slot), word(state, run.slot))

    @step
    def catch_up(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take over the present base."""
        run = self._run(context, state, payload, None, "catch_up")
        forget(context, run.place.attempt)
        present = Base(integer_in(payload, "version"), text_in(payload, "digest"))
        base, beside = run.open_base(payload)
        return let_in(caught_up(state, run.slot, base, present), run.slot, of_word(state, run.slot, beside)), {}

    def _insiders(self, run: MeanRun, state: ClientState) -> Insiders | None:
        """See `of_terms`: refuses terms that let other clients into a group."""
        return of_terms(run.place, state, run.slot, fewest=self.min_responders, newcomers=self.newcomers)

    def _run(self, context: object, state: ClientState, payload: Arrays, task: str | None, step_name: str) -> MeanRun:
        """The run that a message belongs to; a client that missed its start may come in where the terms are repeated.

        Raises:
            ProtocolError: the client has no part in it.
        """
        attempt, name = attempt_in(payload), f"aggregator.{step_name}"
        if "about" in payload and not takes_part(context, attempt):
            return self._join(context, state, payload, task)
        run: MeanRun = kept(context, attempt, MeanRun, name)
        if task not in (None, run.place.about["task"]):
            raise ProtocolError(f"step {name!r} is no part of this run")
        return run

    def _join(self, context: object, state: ClientState, payload: Arrays, task: str | None) -> MeanRun:
        """Accept terms that are not weaker than this client's own settings.

        Raises:
            ProtocolError: they are.
        """
        run = MeanRun(join(context, "aggregator", payload, named=task != "mean"), self.codec)
        about = run.place.about
        if task not in (None, about.get("task")):
            raise ProtocolError(f"terms of the task {about.get('task')!r} where {task!r} is asked for")
        if about["task"] == "mean":
            require_acceptable(self, about, run.place.clients)
            require_shared_out(self.most_weight, run, getattr(context, "weight", None))
            self._insiders(run, state)
        keep(run.place, run)
        return run
