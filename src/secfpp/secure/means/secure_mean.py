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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.randomness import Stream
from secfpp.errors import ConfigError, Problem, ProtocolError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, step
from secfpp.secure import committee
from secfpp.secure.means.aggregator import Aggregator, check_codec
from secfpp.secure.means.client import MeanRun, attempt_in
from secfpp.secure.means.relay import RECEIVE, SUM, Inclusion, Relay
from secfpp.secure.means.updates import (
    base_of,
    caught_up,
    encoded_update,
    latecomers,
    moved,
    next_version,
    rebased,
    version_in,
    version_of,
)
from secfpp.secure.session import forget, join, keep, kept, once, takes_part, terms, with_keys
from secfpp.settings import check_types


@dataclass(frozen=True)
class SecureMean(Aggregator):
    """The weighted mean, equal to `PlainMean`'s bit for bit, with a server that sees no update and no mean.

    Four exchanges, after those of key agreement if the cohort has no keys yet. A client that drops out is wholly in
    the mean or wholly out of it; up to ``holders - quorum`` holders may drop out. With fewer, or with fewer updates
    than `min_responders`, there is no mean and everybody goes back to its base. Late clients are as in `PlainMean`, and
    get the base sealed.

    Holders whose sums do not fit the others are found as long as redundant sums are left, and named in a `TamperError`,
    which ends the round after every client was served the mean without them. A client whose shares are of no
    polynomial spoils all sums and cannot be named.

    Args:
        clip: L2 norm to which an update is shortened, positive.
        bits: fractional bits of the fixed-point encoding.
        threshold: how many holders may work together with the server; larger ones cost redundancy and length.
        min_responders: fewer updates than this give no mean; clients insist on it too. At least ``threshold + 2``, so
            that colluders who subtract their own updates are left with the sum of two.

    Raises:
        ConfigError: values that cannot work.
    """

    kind: ClassVar[str] = "secure"
    needs_keys: ClassVar[bool] = True

    clip: float = 10.0
    bits: int = 24
    threshold: int = 2
    min_responders: int = 4

    def __post_init__(self) -> None:
        check_types(self, "aggregator")
        check_codec(self.clip, self.bits)
        problems = []
        if not 1 <= self.threshold <= committee.LARGEST - 2:
            problems.append(Problem("aggregator.threshold", self.threshold, f"1 to {committee.LARGEST - 2}"))
        if self.min_responders < self.threshold + 2:
            allowed = f"at least threshold + 2 = {self.threshold + 2}"
            problems.append(Problem("aggregator.min_responders", self.min_responders, allowed))
        if problems:
            raise ConfigError(problems)

    def security(self, n_clients: int) -> Mapping[str, object]:
        """What holds with `n_clients`: how many hold shares, and how many of them may collude with the server."""
        return {"holders": min(n_clients, committee.LARGEST), "threshold": self.threshold}

    @cached_property
    def _codec(self) -> FixedPoint:
        return FixedPoint(self.clip, self.bits)

    def mean(self, cohort: Cohort, slot: str) -> Program[tuple[ClientId, ...]]:
        """See `Aggregator.mean`.

        Raises:
            FieldRangeError: the cohort's weights could overflow the sum; nothing has been sent then.
            ProtocolError: a reply that no honest client gives; leave that client out.
            TamperError: holders whose sums were wrong; the participants hold the right mean.
        """
        self._codec.require_capacity(sum(cohort.weights.values()))
        cohort = yield from with_keys(cohort)
        if len(cohort) < self.min_responders:
            yield Ask("aggregator.keep", {client: {"slot": np.array(slot)} for client in cohort.clients})
            return ()
        about = {
            "task": "mean",
            "slot": slot,
            "weights": dict(cohort.weights),
            "clip": self.clip,
            "bits": self.bits,
            "threshold": self.threshold,
            "min_responders": self.min_responders,
        }
        relay = Relay(terms("aggregator", cohort, about))
        shared = yield Ask("aggregator.share", dict.fromkeys(relay.clients, relay.agreed))
        versions = {client: version_in(shared, client) for client in shared}
        present = max(versions.values(), default=0)
        members = tuple(client for client, version in versions.items() if version == present)
        late = tuple(client for client in versions if client not in members)
        served = [client for client in relay.clients if client not in late]
        inclusion = Inclusion.write(members, present)
        sums: Mapping[ClientId, Arrays] = {}
        if len(members) >= self.min_responders:
            sums = yield from self._sums(relay, shared, members, inclusion)
        if sums:
            payloads = relay.sums_for_clients(sums, served, inclusion)
            payloads |= {client: {**payloads[client], **relay.agreed} for client in served if client not in shared}
        else:
            payloads = {client: {"slot": np.array(slot), "attempt": relay.attempt} for client in served}
        if late:
            payloads[members[0]] = {**payloads[members[0]], "late": np.array(json.dumps(late))}
        acks = yield Ask("aggregator.receive" if sums else "aggregator.keep", payloads)
        if late and "bases" in acks.get(members[0], {}):
            yield relay.catch_up(members[0], acks, late)
        _raise_for_wrong_sums(relay, acks)
        return members if sums else ()

    def _sums(
        self, relay: Relay, shared: Mapping[ClientId, Arrays], members: Sequence[ClientId], inclusion: np.ndarray
    ) -> Program[Mapping[ClientId, Arrays]]:
        """The holders' sealed sums; none if there are too few of them."""
        need = committee.quorum(len(relay.holders), self.threshold)
        if sum(holder in shared for holder in relay.holders) < need:
            return {}
        echoes = yield Ask("aggregator.agree", relay.shares_for_holders(shared, members, inclusion))
        if len(echoes) < need:
            return {}
        sums = yield Ask("aggregator.sum", relay.echoes_for_holders(echoes))
        return sums if len(sums) >= need else {}

    def refresh(self, cohort: Cohort, slot: str) -> Program[None]:
        """See `Aggregator.refresh`: one small exchange, two more (and key agreement) if somebody is late."""
        replies = yield Ask("aggregator.tell", {client: {"slot": np.array(slot)} for client in cohort.clients})
        _, sponsor, late = latecomers(replies)
        if not late:
            return
        few = yield from with_keys(cohort.subset([sponsor, *late]), size=len(late) + 1)
        late = [client for client in late if client in few.weights]
        if sponsor not in few.weights or not late:
            return
        relay = Relay(terms("aggregator", few, {"task": "base", "slot": slot}, size=len(few)))
        payload = {**relay.agreed, "attempt": relay.attempt, "late": np.array(json.dumps(late))}
        shown = yield Ask("aggregator.show", {sponsor: payload})
        if sponsor in shown:
            yield relay.catch_up(sponsor, shown, late, first=True)

    @step
    def tell(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the version of the base."""
        return state, {"version": np.array(version_of(state, text_in(payload, "slot")))}

    @step
    def share(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply a sealed share of the weighted, clipped update for every other holder, and the version of its base."""
        run = self._join(context, payload, "mean")
        once(run.place, f"share of {run.slot}")
        encoded = encoded_update(state, run.slot, self._codec, run.weights[run.name])
        version = version_of(state, run.slot)
        envelopes = run.seal_shares(encoded, version, Stream.fresh(run.place.party.entropy))
        return state, {"envelopes": envelopes, "version": np.array(version)}

    @step
    def agree(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Add the shares of those who are said to be in the mean, and tell the other holders who that is."""
        run = self._run(context, payload, "mean", "agree")
        return state, {"echoes": run.take_shares(payload, base_of(state, run.slot).size, self.min_responders)}

    @step
    def sum(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Seal the sum of the shares to all participants, once a quorum of holders was told the same."""
        return state, {"envelopes": self._run(context, payload, "mean", "sum").seal_sums(payload)}

    @step
    def receive(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Decode the mean and add it to the base; a client with another base goes back to its own and waits."""
        run = self._run(context, payload, "mean", "receive")
        forget(context, run.place.attempt)
        base, own = base_of(state, run.slot), version_of(state, run.slot)
        inclusion = Inclusion.read(payload.get("inclusion"), run.weights, self.min_responders, RECEIVE)
        if own != inclusion.version:
            return state.replace(**{run.slot: base.copy()}), {}
        total, wrong = run.open_sum(payload, inclusion, base.size)
        weight = sum(run.weights[client] for client in inclusion.included)
        if np.abs(PrimeField.lower(total)).max(initial=0) > self._codec.largest * weight:
            raise TamperError(None, RECEIVE, "the sum is larger than updates can make it: a client's shares are wrong")
        new = moved(base, total.reshape(base.shape), self._codec, weight)
        version = np.array(next_version(own, int(run.place.about["round"])))
        reply = {"wrong": np.array(json.dumps(wrong))} if wrong else {}
        return rebased(state, run.slot, new, version), {**reply, **run.seal_base(payload, new, version)}

    @step
    def keep(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Go back to the base: there was no mean."""
        slot = text_in(payload, "slot")
        base = base_of(state, slot)
        reply: Arrays = {}
        if "late" in payload:
            run = self._run(context, payload, "mean", "keep")
            reply = run.seal_base(payload, base, np.array(version_of(state, slot)))
        if "attempt" in payload:
            forget(context, attempt_in(payload))
        return state.replace(**{slot: base.copy()}), reply

    @step
    def show(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Seal the base for members that lack it."""
        run = self._run(context, payload, "base", "show")
        forget(context, run.place.attempt)
        return state, run.seal_base(payload, base_of(state, run.slot), np.array(version_of(state, run.slot)))

    @step
    def catch_up(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take over the present base."""
        run = self._run(context, payload, None, "catch_up")
        forget(context, run.place.attempt)
        base, version = run.open_base(payload)
        return caught_up(state, run.slot, base, version), {}

    def _run(self, context: object, payload: Arrays, task: str | None, step_name: str) -> MeanRun:
        """The run that a message belongs to; a client that missed its start may come in where the terms are repeated.

        Raises:
            ProtocolError: the client has no part in it.
        """
        attempt, name = attempt_in(payload), f"aggregator.{step_name}"
        if "about" in payload and not takes_part(context, attempt):
            return self._join(context, payload, task)
        run: MeanRun = kept(context, attempt, MeanRun, name)
        if task not in (None, run.place.about["task"]):
            raise ProtocolError(f"step {name!r} is no part of this run")
        return run

    def _join(self, context: object, payload: Arrays, task: str | None) -> MeanRun:
        """Accept terms that are not weaker than this client's own settings.

        Raises:
            ProtocolError: they are.
        """
        run = MeanRun(join(context, "aggregator", payload))
        about = run.place.about
        if task not in (None, about.get("task")):
            raise ProtocolError(f"terms of the task {about.get('task')!r} where {task!r} is asked for")
        if about["task"] == "mean":
            self._check(about, run.place.clients)
        keep(run.place, run)
        return run

    def _check(self, about: Mapping[str, Any], clients: Sequence[ClientId]) -> None:
        problems = [
            f"{name} = {about.get(name)!r}, this client has {value}"
            for name, value in (("clip", self.clip), ("bits", self.bits), ("size", committee.LARGEST))
            if about.get(name) != value
        ]
        problems += [
            f"{name} = {about.get(name)!r}, this client insists on {least} or more"
            for name, least in (("threshold", self.threshold), ("min_responders", self.min_responders))
            if not (isinstance(about.get(name), int) and about[name] >= least)
        ]
        if len(clients) < self.min_responders:
            problems.append(f"{len(clients)} clients, this client insists on {self.min_responders} or more")
        weights = about.get("weights")
        if not isinstance(weights, dict) or sorted(weights) != list(clients):
            problems.append("weights that are not those of the clients")
        elif not all(type(weight) is int and weight >= 1 for weight in weights.values()):
            problems.append("weights that are not integers from 1")
        if problems:
            raise ProtocolError("terms of a mean that this client does not accept: " + "; ".join(problems))
        self._codec.require_capacity(sum(about["weights"].values()))


def _raise_for_wrong_sums(relay: Relay, acks: Mapping[ClientId, Arrays]) -> None:
    """Name the holders whose sums the participants found wrong.

    Raises:
        TamperError: there are some.
    """
    found: dict[ClientId, tuple[str, list[ClientId]]] = {}
    for client, reply in acks.items():
        for holder, what in relay.read_wrong(client, reply).items():
            found.setdefault(holder, (what, []))[1].append(client)
    if found:
        told = "; ".join(
            f"{holder!r}: {what} (found by {', '.join(by)})" for holder, (what, by) in sorted(found.items())
        )
        only = next(iter(found)) if len(found) == 1 else None
        raise TamperError(only, SUM, f"{told}. The mean that clients hold is right; leave these holders out")
