"""Sealed messages between clients that meet only through a server which they do not trust.

Assumptions: computational Diffie-Hellman on Curve25519 (X25519, RFC 7748), HKDF-SHA256 (RFC 5869) as a random
oracle, AES-256-GCM (NIST SP 800-38D) and Ed25519; all parties hold the same roster; ephemeral private keys never
leave the process, so that recorded messages stay closed when an identity key is lost later (forward secrecy).

Every envelope has a key of its own, derived from the pair's shared secret, the roster, and the label, sender and
recipient of the envelope, which are authenticated as associated data too. The nonce is therefore constant. What
a server can still do is to withhold an envelope; changed, moved or repeated ones are refused. Words that are no
secret need no envelope: a tag, derived in the same way, proves who says them to whom.
"""

from __future__ import annotations

import hmac
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secfpp.crypto.roster import KEY_BYTES, IdentityKey, Roster, pack, verify
from secfpp.errors import ConfigError, ProtocolError, TamperError
from secfpp.seeding import Entropy

OFFER_BYTES = 96
"""Length of an offer: a public key and a signature."""
ENVELOPE_OVERHEAD = 16
"""How much longer an envelope is than what it holds."""
OPENING_BYTES = 64 + ENVELOPE_OVERHEAD
"""Length of an envelope that opens a body which is sealed for several, see `Channel.seal_for_all`."""
TAG_BYTES = 32
"""Length of a tag."""
OFFER_STEP = "session.offer"
"""The step that errors about session keys name."""
Data = bytes | bytearray | memoryview
Pair = tuple[bytes, bytes]
"""Of two clients: a salt, and HKDF-Extract with it of the secret that they share."""
_NONCE, _KEY_BYTES = bytes(12), 32
_ENVELOPE, _TAG, _PAIR = b"secfpp/envelope/3", b"secfpp/tag/1", b"secfpp/pair/2"
_FORGED = (
    "that is not authentic: changed on its way, or made for another step, round, attempt, recipient or history of the "
    "protocol"
)


@dataclass(frozen=True)
class Label:
    """What a message belongs to; two messages with one sender and recipient never share a label.

    Args:
        component: the part of the protocol, e.g. ``aggregator``.
        round: the round, from 0.
        attempt: tells runs of the protocol in one round apart, e.g. a random number.
        step: the step within the component.
        transcript: hash of what all parties should agree on so far; empty before there is anything.

    Raises:
        ProtocolError: a number that is negative or beyond 63 bits.
    """

    component: str
    round: int
    attempt: int
    step: str
    transcript: bytes = b""
    _encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, number in (("round", self.round), ("attempt", self.attempt)):
            if not 0 <= operator.index(number) < 1 << 63:
                raise ProtocolError(f"{what} {number} of a label: integers from 0 below 2^63 are possible")
        numbers = [operator.index(number).to_bytes(8, "big") for number in (self.round, self.attempt)]
        parts = (b"secfpp/label/1", self.component.encode(), *numbers, self.step.encode(), self.transcript)
        object.__setattr__(self, "_encoded", pack(*parts))

    @property
    def name(self) -> str:
        """Component and step as errors name them: ``component.step``."""
        return f"{self.component}.{self.step}"

    def encode(self) -> bytes:
        """The label's bytes, different for different labels."""
        return self._encoded


class SessionKey:
    """A client's ephemeral X25519 key; make a new one for every attempt of a session, it cannot be stored.

    It remembers by salt and label which one-time keys were used, so that not even two channels made from it use one
    twice.
    """

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self._spent: set[tuple[bytes, bytes]] = set()

    @classmethod
    def generate(cls) -> SessionKey:
        """A fresh key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def offer(self, identity: IdentityKey, roster: Roster, name: str, context: bytes) -> bytes:
        """This key for the others: public key and signature, `OFFER_BYTES` long.

        Args:
            identity: the long-lived key of the client `name`.
            roster: the run's roster.
            name: who offers.
            context: what the session is for, e.g. an encoded `Label`; an offer is good for this context only.

        Raises:
            ConfigError: the roster lists another key under `name`, or none.
        """
        if roster.keys.get(name) != identity.public:
            listed = "another key for" if name in roster.keys else "no client"
            raise ConfigError(
                f"roster version {roster.version} of run {roster.run!r} lists {listed} {name!r}: use that key, or get "
                "the roster changed (secfpp keys roster add or replace)"
            )
        return self.public + identity.sign(_offered(roster.digest, name, context, self.public))

    def __repr__(self) -> str:
        return "SessionKey(<secret>)"


@lru_cache(maxsize=1 << 12)  # clients that share a process are shown the same offers
def _offered(roster_digest: bytes, name: str, context: bytes, public: bytes) -> bytes:
    return pack(b"secfpp/offer/1", roster_digest, name.encode(), context, public)


def _listed(roster: Roster) -> str:
    return f"roster version {roster.version} ({roster.fingerprint}) of run {roster.run!r}"


def read_offer(offer: bytes, sender: str, roster: Roster, context: bytes) -> bytes:
    """The session's public key, 32 bytes, from an offer that `sender` has signed for this roster and context.

    Raises:
        TamperError: the sender is unknown to the roster, or did not sign this.
    """
    if sender not in roster.keys:
        raise TamperError(
            sender,
            OFFER_STEP,
            f"{_listed(roster)} has no such client. Compare roster versions (secfpp keys roster show); a new client "
            "must be added to everyone's",
        )
    if len(offer) != OFFER_BYTES:
        raise TamperError(sender, OFFER_STEP, f"a session key offer of {len(offer)} bytes, not {OFFER_BYTES}")
    public, signature = offer[:KEY_BYTES], offer[KEY_BYTES:]
    if not verify(roster.keys[sender], signature, _offered(roster.digest, sender, context, public)):
        raise TamperError(
            sender,
            OFFER_STEP,
            f"the session key is not signed, for this session, with the key in {_listed(roster)}. Either the sender "
            "has another roster version (compare: secfpp keys roster show), or another key (a lost one must be "
            "replaced in everyone's roster), or the message was changed or repeated on its way",
        )
    return public


class Channel:
    """One client's end of the sealed channels to the others of a session.

    Args:
        name: this client.
        session: its session key.
        roster_digest: digest of the roster that all offers were verified against.
        peers: the other clients' public session keys, each from `read_offer`; an entry of its own is ignored.

    Raises:
        ProtocolError: a public key of another length.
    """

    def __init__(self, name: str, session: SessionKey, roster_digest: bytes, peers: Mapping[str, bytes]) -> None:
        self.name = name
        self._session, self._roster_digest = session, roster_digest
        self._peers = {peer: bytes(public) for peer, public in peers.items() if peer != name}
        self._pairs: dict[str, Pair] = {}
        for peer, public in self._peers.items():
            if len(public) != KEY_BYTES:
                raise ProtocolError(f"the session key of {peer!r} has {len(public)} bytes, not {KEY_BYTES}")

    @property
    def peers(self) -> tuple[str, ...]:
        """The other clients, sorted."""
        return tuple(sorted(self._peers))

    def seal(self, recipient: str, label: Label, plaintext: Data) -> bytes:
        """An envelope for `recipient`, `ENVELOPE_OVERHEAD` bytes longer than `plaintext`.

        Raises:
            ProtocolError: `recipient` is no peer, or something was sealed for it under this label before: a
                repeated step needs another attempt number.
            TamperError: the recipient's session key is not usable.
        """
        return self.seal_each([recipient], label, [plaintext]).tobytes()

    def seal_each(self, recipients: Sequence[str], label: Label, plaintexts: Sequence[Data]) -> np.ndarray:
        """An envelope for each of `recipients`, of plaintexts of one length: uint8 [recipients, bytes].

        Raises:
            ProtocolError: as `seal`; what comes before it in the list is sealed then.
            TamperError: as `seal`.
        """
        size = len(plaintexts[0]) + ENVELOPE_OVERHEAD if recipients else 0
        spent, sealed = self._session._spent, np.empty((len(recipients), size), np.uint8)
        for recipient, plaintext, envelope in zip(recipients, plaintexts, sealed, strict=True):
            salt, secret = self._pairs.get(recipient) or self._pair_of_recipient(recipient, label)
            info = _info(_ENVELOPE, label, self.name, recipient)
            if (salt, info) in spent:
                raise ProtocolError(
                    f"step {label.name!r}, round {label.round}, attempt {label.attempt}: a message to {recipient!r} "
                    "was sealed already, and a key is used once only. Start the round again with the next attempt "
                    "number"
                )
            spent.add((salt, info))
            AESGCM(_expand(secret, info)).encrypt_into(_NONCE, plaintext, info, envelope.data)
        return sealed

    def seal_for_all(
        self, recipients: Sequence[str], label: Label, plaintext: Data, entropy: Entropy
    ) -> tuple[bytes, np.ndarray]:
        """One sealed body for several recipients, and an envelope for each, which has the body's key and hash.

        The hash is there since everybody who has the key could make another body.

        Raises:
            ProtocolError: as `seal`.
            TamperError: as `seal`.
        """
        key = entropy.random_bytes(_KEY_BYTES)
        body = AESGCM(key).encrypt(_NONCE, plaintext, label.encode())
        opening = key + sha256(body).digest()
        return body, self.seal_each(recipients, label, [opening] * len(recipients))

    def open_for_all(self, sender: str, label: Label, body: Data, envelope: Data) -> bytes:
        """What `sender` sealed for this client and others with `seal_for_all`.

        Raises:
            TamperError: the envelope or the body is not what it sealed.
        """
        opening = self.open(sender, label, envelope)
        key, digest = opening[:_KEY_BYTES], opening[_KEY_BYTES:]
        if sha256(body).digest() != digest:
            raise TamperError(sender, label.name, f"a body {_FORGED}")
        try:
            return AESGCM(key).decrypt(_NONCE, body, label.encode())
        except InvalidTag:
            raise TamperError(sender, label.name, "a body that it did not seal with the key it gave") from None

    def open(self, sender: str, label: Label, envelope: Data) -> bytes:
        """What `sender` sealed for this client under this label.

        Raises:
            TamperError: the envelope is not that: unknown sender, changed, meant for another step or party, from
                another roster version, or opened before.
        """
        return self.open_each([sender], label, [envelope])[0]

    def open_each(self, senders: Sequence[str], label: Label, envelopes: Iterable[Data]) -> list[bytes]:
        """What each of `senders` sealed for this client under this label.

        Raises:
            TamperError: as `open`; it names the first sender whose envelope is not that. Those before it are opened.
        """
        spent, opened = self._session._spent, []
        for sender, envelope in zip(senders, envelopes, strict=True):
            salt, secret = self._pairs.get(sender) or self._pair_of_sender(sender, label)
            info = _info(_ENVELOPE, label, sender, self.name)
            if (salt, info) in spent:
                raise TamperError(sender, label.name, "an envelope of this label was opened before: a repeated message")
            try:
                opened.append(AESGCM(_expand(secret, info)).decrypt(_NONCE, envelope, info))
            except InvalidTag:
                raise TamperError(sender, label.name, f"an envelope {_FORGED}") from None
            spent.add((salt, info))
        return opened

    def tag(self, recipient: str, label: Label) -> bytes:
        """`TAG_BYTES` that show `recipient` that this client says what `label` says; the same ones every time.

        Raises:
            ProtocolError: `recipient` is no peer.
            TamperError: its session key is not usable.
        """
        _, secret = self._pairs.get(recipient) or self._pair_of_recipient(recipient, label)
        return _expand(secret, _info(_TAG, label, self.name, recipient))

    def check(self, sender: str, label: Label, tag: bytes) -> None:
        """Refuse a `tag` that `sender` did not make for this client and label.

        Raises:
            TamperError: it is not that: unknown sender, changed, meant for another step or party, or from another
                roster version.
        """
        _, secret = self._pairs.get(sender) or self._pair_of_sender(sender, label)
        if not hmac.compare_digest(_expand(secret, _info(_TAG, label, sender, self.name)), tag):
            raise TamperError(sender, label.name, f"a tag {_FORGED}")

    def pair_key(self, peer: str, label: Label) -> bytes:
        """A key that only this client and `peer` know, 32 bytes; the same at both ends and every time.

        Raises:
            ProtocolError: `peer` is none.
            TamperError: its session key is not usable.
        """
        _, secret = self._pairs.get(peer) or self._pair_of_recipient(peer, label)
        first, second = (self.name, peer) if self.name < peer else (peer, self.name)
        return _expand(secret, _info(_PAIR, label, first, second))

    def __repr__(self) -> str:
        return f"Channel({self.name!r}, peers: {', '.join(self.peers) or 'none'})"

    def _pair_of_recipient(self, peer: str, label: Label) -> Pair:
        if peer not in self._peers:
            raise ProtocolError(f"step {label.name!r}: {peer!r} has no channel to {self.name!r} in this session")
        return self._agreed(peer)

    def _pair_of_sender(self, sender: str, label: Label) -> Pair:
        if sender not in self._peers:
            raise TamperError(sender, label.name, "a message from someone who has no channel in this session")
        return self._agreed(sender)

    def _agreed(self, peer: str) -> Pair:
        """What both have in common, computed once."""
        public = self._peers[peer]
        publics = sorted((self._session.public, public))
        salt = sha256(pack(b"secfpp/channel/1", self._roster_digest, *publics)).digest()
        try:  # the library refuses an all-zero secret
            shared = self._session._private.exchange(_parsed(public))
        except ValueError:
            raise TamperError(peer, OFFER_STEP, "a session key of low order, which would keep no secret") from None
        pair = self._pairs[peer] = salt, hmac.digest(salt, shared, "sha256")
        return pair


@lru_cache(maxsize=1 << 12)  # clients that share a process are shown the same public keys
def _parsed(public: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(public)


def _expand(secret: bytes, info: bytes) -> bytes:
    return hmac.digest(secret, info + b"\x01", "sha256")  # HKDF-Expand to one block


def _info(domain: bytes, label: Label, first: str, second: str) -> bytes:
    return _between(domain, first, second) + label._encoded


@lru_cache(maxsize=1 << 14)
def _between(domain: bytes, first: str, second: str) -> bytes:
    return pack(domain, first.encode(), second.encode())
