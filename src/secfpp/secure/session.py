"""Key agreement of a round: what clients need before they can send each other anything through the server.

A client's `Party` holds its identity, the roster and its source of secret randomness, and in memory only the keys and
shares of the present round. `greet` collects everybody's signed ephemeral keys and commitments; `terms`, which every
participant of one protocol run gets in the same words, are what all envelopes are bound to.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, ClassVar, TypeVar

import numpy as np

from secfpp.crypto.channel import Channel, Label, SessionKey, read_offer
from secfpp.crypto.roster import KEY_BYTES
from secfpp.errors import DropoutError, ProtocolError, ReplyError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, step
from secfpp.secure import committee
from secfpp.secure.key_lists import SIZES, everybodys, rows_in, stacked
from secfpp.secure.key_lists import as_array as as_array
from secfpp.secure.key_lists import as_bytes as as_bytes
from secfpp.secure.ledger import DRAWS
from secfpp.secure.party import Party as Party
from secfpp.secure.party import RoundKeys
from secfpp.secure.party import parties_in_memory as parties_in_memory
from secfpp.secure.party import party_of as party_of
from secfpp.secure.reading import PROTOCOL_VERSION as PROTOCOL_VERSION
from secfpp.secure.reading import Terms, read_terms, require_version

_ANEW = frozenset({"attempt", "session", "draw", "holders", "listed", "gone", "offers"})
"""What terms say anew each time, whoever takes part in whatever is computed."""
F = TypeVar("F")


@dataclass(frozen=True)
class Session:
    """The steps of key agreement; a field or class attribute named ``session`` of an algorithm."""

    kind: ClassVar[str] = "session"

    @step
    def hello(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply a signed ephemeral key and a commitment to randomness; the same ones for the same session."""
        party, round_, draw = party_of(context), integer_in(payload, "round"), integer_in(payload, "draw")
        require_version(integer_in(payload, "version"))
        party.ledger.begin(round_, draw)
        name = _name_of(round_, draw)
        if party.session is None or party.session.name != name:
            key, nonce = SessionKey.generate(), party.entropy.random_bytes(SIZES["nonce"])
            offer = key.offer(party.identity, party.roster, party.name, name.encode())
            party.session = RoundKeys(name, key, nonce, offer)
        commitment = committee.commitment(party.name, party.session.nonce)
        return state, {"offer": as_array(party.session.offer), "commitment": as_array(commitment)}

    @step
    def reveal(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Show the committed randomness, after everybody's commitment is fixed; for one list of commitments only."""
        session = _session(party_of(context), text_in(payload, "session"))
        listed = as_bytes(payload.get("commitments"))
        if len(listed) != SIZES["commitment"]:
            raise ProtocolError("step 'session.reveal': a message without the hash of all commitments")
        if session.shown not in (None, listed):
            raise TamperError(None, "session.reveal", "a second, different list of commitments for one session")
        session.shown = listed
        return state, {"nonce": as_array(session.nonce)}


def greet(cohort: Cohort) -> Ask:
    """The ask for everybody's session keys; `greeted` takes its replies. It may travel with another ask."""
    facts = {"round": cohort.round, "draw": cohort.draw, "version": PROTOCOL_VERSION}
    payload = {name: np.array(value) for name, value in facts.items()}
    return Ask("session.hello", dict.fromkeys(cohort.clients, payload))


def greeted(cohort: Cohort, replies: Mapping[ClientId, Arrays]) -> Cohort:
    """The cohort of those who answered `greet`, with their keys."""
    return replace(cohort.subset(set(replies) & set(cohort.clients)), keys=dict(replies))


def with_keys(cohort: Cohort, size: int = committee.LARGEST) -> Program[Cohort]:
    """`cohort` with everything that `terms` needs: keys, and the shown randomness if a committee has to be drawn.

    Randomness of all who committed to it is used. If somebody does not show it, the others commit and show anew, once:
    who sees the others' first could else decide by dropping out, or the server by saying that somebody did.

    Raises:
        DropoutError: somebody drops out there a second time.
    """
    while True:
        if set(cohort.clients) - set(cohort.keys):
            cohort = greeted(cohort, (yield greet(cohort)))
        if len(cohort) <= size or all("nonce" in cohort.keys[client] for client in cohort.clients):
            return cohort
        rows = {"commitments": stacked(cohort.keys, cohort.clients, "commitment")}
        commitments = rows_in(rows, "commitment", cohort.clients, "session.reveal")
        payload = {
            "session": np.array(_name_of(cohort.round, cohort.draw)),
            "commitments": as_array(committee.listing("commitments", cohort.clients, list(commitments.values()))),
        }
        replies = yield Ask("session.reveal", dict.fromkeys(cohort.clients, payload))
        shown = replies.readable(partial(_nonce_in, commitments))
        if len(shown) == len(cohort):
            return replace(cohort, keys={c: {**cohort.keys[c], "nonce": nonce} for c, nonce in shown.items()})
        if cohort.draw + 1 == DRAWS:
            raise DropoutError("session.reveal", len(cohort), len(shown), replies.missing)
        cohort = replace(cohort.subset(shown), draw=cohort.draw + 1, keys={})


def _nonce_in(commitments: Mapping[ClientId, bytes], client: ClientId, reply: Arrays) -> np.ndarray:
    """What a client showed, if it is what it had committed to."""
    nonce: np.ndarray = stacked({client: reply}, [client], "nonce")[0]
    if committee.commitment(client, nonce.tobytes()) != commitments[client]:
        raise ReplyError(client, "showed other randomness than it committed to")
    return nonce


def terms(
    component: str,
    cohort: Cohort,
    about: Mapping[str, Any],
    size: int = committee.LARGEST,
    holders: Sequence[ClientId] = (),
    asked: Iterable[ClientId] | None = None,
) -> Arrays:
    """What participants of one protocol run are told.

    Holders get all of it, for they open what everybody seals. To others `in_short` is enough: they seal to holders and
    open what these seal. Either way the hash that all labels hold is the same, and says which keys everybody has.

    Args:
        component: the part of the protocol.
        cohort: of whom holders are drawn, with keys (see `with_keys`).
        about: what else is agreed, ready for JSON.
        size: most holders.
        holders: who they are, where the server may choose; then they are not drawn, and `size` is 0 in the terms.
        asked: which of these take part, beside the holders; None for all.

    Raises:
        ProtocolError: keys that no honest client sends.
    """
    drawn, arrays = len(cohort) > size and not holders, {}
    listed = sorted(client for client, own in cohort.keys.items() if "nonce" in own) if drawn else []
    nonces: Mapping[ClientId, bytes] = {}
    if drawn:
        arrays["nonces"] = stacked(cohort.keys, listed, "nonce")
        nonces = rows_in(arrays, "nonce", listed, f"{component}.join")
    chosen = sorted(holders) or committee.draw(cohort.clients, nonces, size)
    clients = cohort.clients if asked is None else tuple(sorted({*asked, *chosen}))
    arrays["holder_offers"] = stacked(cohort.keys, chosen, "offer")
    arrays["offers"] = stacked(cohort.keys, clients, "offer")
    facts = {
        "version": PROTOCOL_VERSION,
        "component": component,
        "session": _name_of(cohort.round, cohort.draw),
        "round": cohort.round,
        "draw": cohort.draw,
        "listed": listed if asked is not None or listed != list(clients) else [],
        "attempt": (1 << 61) + secrets.randbits(61),  # public: tells runs of one session apart
        "clients": list(clients),
        "holders": list(chosen),
        "size": 0 if holders else size,
        "offers": sha256(arrays["offers"].tobytes()).hexdigest(),
        **({} if asked is None else {"gone": sorted(set(listed).difference(cohort.clients))}),
        **about,
    }
    return {"about": np.array(json.dumps(facts, sort_keys=True)), **arrays}


def in_short(agreed: Arrays) -> Arrays:
    """What of `terms` those who hold no shares need: with the keys of holders, and a hash of everybody's."""
    return {name: array for name, array in agreed.items() if name != "offers"}


@dataclass(frozen=True)
class Joined:
    """A client's place in a protocol run whose terms it accepted.

    Attributes:
        agreed: the terms.
        channel: to seal and open envelopes.
    """

    party: Party = field(repr=False)
    agreed: Terms
    channel: Channel = field(repr=False)

    @property
    def about(self) -> Mapping[str, Any]:
        """The agreed facts."""
        return self.agreed.about

    @property
    def digest(self) -> bytes:
        """Hash of the terms; part of every label."""
        return self.agreed.digest

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """The participants, sorted."""
        return self.agreed.clients

    @property
    def holders(self) -> tuple[ClientId, ...]:
        """Those who hold shares, sorted."""
        return self.agreed.holders

    def label(self, step_name: str, transcript: bytes = b"") -> Label:
        """The label of a step's messages."""
        about = self.about
        numbers = int(about["round"]), int(about["attempt"])
        return _label(str(about["component"]), *numbers, step_name, self.digest + transcript)

    def fact(self, name: str, kind: type[F]) -> F:
        """The agreed fact `name`.

        Raises:
            ProtocolError: there is none of this type.
        """
        value = self.about.get(name)
        if type(value) is not kind:
            raise ProtocolError(f"terms without {name!r}: the parties do not run the same protocol")
        return value

    @property
    def attempt(self) -> int:
        """The number that tells this protocol run apart."""
        return int(self.about["attempt"])


@lru_cache(maxsize=64)  # clients that share a process make the same
def _label(component: str, round_: int, attempt: int, step_name: str, transcript: bytes) -> Label:
    return Label(component, round_, attempt, step_name, sha256(transcript).digest())


def join(context: object, component: str, message: Arrays, named: bool = False) -> Joined:
    """Check the terms of a protocol run and take part in it, once.

    Args:
        context: the client's.
        component: the part of the protocol that the terms must be of.
        message: holds what `terms` gave or `in_short` left, and may hold more.
        named: whether the server may name holders, see `terms`.

    Raises:
        ProtocolError: another protocol version or public seed, or terms that no honest server sends.
        TamperError: keys that are not signed by their owners, a committee that does not follow from the
            revealed randomness, or a run joined before.
    """
    party, name = party_of(context), f"{component}.join"
    agreed = read_terms(message, name)
    about, clients = agreed.about, agreed.clients
    session = _session(party, str(about["session"]))
    other = about["component"] != component or session.name != _name_of(about["round"], about["draw"])
    if other or party.name not in clients or about["size"] < (not named):
        raise ProtocolError(f"step {name!r}: terms of another protocol run, or of one without {party.name!r}")
    if about["attempt"] in session.joined:
        raise TamperError(None, name, "a protocol run that was joined before is offered again")
    threshold, least = about.get("threshold"), party.least_colluding
    if least and threshold is not None and not (type(threshold) is int and threshold >= least):
        raise ProtocolError(f"step {name!r}: terms with T = {threshold!r}, this client insists on {least} or more")
    own = getattr(context, "seed", None)
    if own is not None and about.get("seed", own) != own:
        raise ProtocolError(f"step {name!r}: terms with the public seed {about['seed']}, this run's is {own}")
    if agreed.drawn is not None:
        committee.require_drawn((party.name, session.nonce), session.shown, agreed.drawn, agreed.holders, name)
    offers = rows_in(message, "offer", agreed.holders, name, "holder_offers")
    if "offers" in message or party.name in offers:
        offers = everybodys(message, clients, offers, about["offers"], name)
    for client, offer in offers.items():
        if client not in session.peers:
            read_offer(offer, client, party.roster, session.name.encode())
            session.peers[client] = offer
        if session.peers[client] != offer:
            raise TamperError(client, name, "a second session key for the same round")
    session.joined.add(about["attempt"])
    return Joined(party, agreed, _channel(party, session, offers))


def _channel(party: Party, session: RoundKeys, clients: Iterable[ClientId]) -> Channel:
    """The session's channel, which remembers the secrets it computed; made anew when there are new peers."""
    if session.channel is None or set(clients) - {*session.channel.peers, party.name}:
        publics = {peer: offer[:KEY_BYTES] for peer, offer in session.peers.items()}
        session.channel = Channel(party.name, session.key, party.roster.digest, publics)
    return session.channel


def keep(joined: Joined, value: object) -> None:
    """Keep what a protocol run needs in its next step, in memory."""
    session = joined.party.session
    assert session is not None
    session.running[joined.attempt] = value


def kept(context: object, attempt: int, kind: type[Any], step_name: str) -> Any:
    """What `keep` kept for this attempt.

    Raises:
        ProtocolError: nothing: the client was not part of it, or lost its memory since.
    """
    session = party_of(context).session
    value = session.running.get(attempt) if session else None
    if not isinstance(value, kind):
        raise ProtocolError(f"step {step_name!r}: this client takes no part in attempt {attempt}; run the round again")
    return value


def takes_part(context: object, attempt: int) -> bool:
    """Whether something is kept for this attempt."""
    session = party_of(context).session
    return session is not None and attempt in session.running


def once(joined: Joined, what: str) -> None:
    """Allow `what` a single time in a round, over all attempts of it and whatever sessions it is given.

    Raises:
        TamperError: it was done before.
    """
    joined.party.ledger.once(f"{joined.about['component']}.{what}")


def undone(joined: Joined, what: str) -> None:
    """Refuse to begin what was done in this round, see `once`.

    Raises:
        TamperError: it was.
    """
    joined.party.ledger.undone(f"{joined.about['component']}.{what}")


def bind(joined: Joined, what: str, whom: object = None) -> None:
    """Do `what` in this round with the same others only, also if the round is started again.

    Args:
        joined: the place in the protocol run.
        what: is done.
        whom: with whom, JSON-ready; None stands for all that the terms say but for what is drawn anew each time.

    Raises:
        TamperError: it was done with others.
    """
    if whom is None:
        whom = {name: value for name, value in joined.about.items() if name not in _ANEW}
    digest = sha256(json.dumps(whom, sort_keys=True).encode()).hexdigest()
    joined.party.ledger.bind(f"{joined.about['component']}.{what}", digest)


def meet(joined: Joined, clients: Iterable[ClientId]) -> None:
    """Take note of the clients that this one is grouped with in this round, whichever group they come into."""
    assert joined.party.session is not None
    joined.party.session.met = frozenset(clients)


def met(joined: Joined) -> frozenset[ClientId]:
    """The clients that this one was grouped with in this round."""
    assert joined.party.session is not None
    return joined.party.session.met


def forget(context: object, attempt: int) -> None:
    """Drop what was kept for this attempt."""
    session = party_of(context).session
    if session:
        session.running.pop(attempt, None)


def _session(party: Party, name: str) -> RoundKeys:
    if party.session is None or party.session.name != name:
        raise ProtocolError(
            f"client {party.name!r} has no keys of session {name!r}: run the round again from its start"
        )
    return party.session


def _name_of(round_: int, draw: int = 0) -> str:
    return f"round-{round_}" if not draw else f"round-{round_}-{draw}"
