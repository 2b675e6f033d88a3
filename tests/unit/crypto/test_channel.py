from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from secfpp.crypto.channel import (
    ENVELOPE_OVERHEAD,
    OFFER_BYTES,
    OFFER_STEP,
    TAG_BYTES,
    Channel,
    Label,
    SessionKey,
    read_offer,
)
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.errors import ConfigError, ProtocolError, TamperError

CLIENTS = ("anna", "ben", "cleo")
CONTEXT = b"session 1"
LABEL = Label("aggregator", 3, 1, "share", b"transcript")
SECRET = b"a prompt nobody else may see"


class World:
    """Three clients that agreed on a roster and on session keys."""

    def __init__(self) -> None:
        self.identity = {name: IdentityKey.generate() for name in CLIENTS}
        self.roster = Roster("trial", 1, {name: key.public for name, key in self.identity.items()})
        self.session = {name: SessionKey.generate() for name in CLIENTS}
        self.offers = {name: self.offer(name) for name in CLIENTS}
        self.publics = {name: read_offer(self.offers[name], name, self.roster, CONTEXT) for name in CLIENTS}
        self.channel = {name: self.open_channel(name) for name in CLIENTS}

    def offer(self, name: str) -> bytes:
        return self.session[name].offer(self.identity[name], self.roster, name, CONTEXT)

    def open_channel(self, name: str) -> Channel:
        return Channel(name, self.session[name], self.roster.digest, self.publics)


@pytest.fixture
def world() -> World:
    return World()


def refused(sender: str, step: str, attempt: Callable[[], object]) -> str:
    """The message of the TamperError that `attempt` must raise about `sender` in `step`."""
    with pytest.raises(TamperError) as caught:
        attempt()
    assert (caught.value.party, caught.value.step) == (sender, step)
    assert repr(sender) in str(caught.value) and repr(step) in str(caught.value)
    return str(caught.value)


def prefixed(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(field)) + field for field in fields)


# Labels


LABELS = st.builds(
    Label,
    st.sampled_from(["", "a", "ab"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["", "a", "b", "bc", "c"]),
    st.sampled_from([b"", b"c", b"bc"]),
)


@given(LABELS, LABELS)
def test_different_labels_have_different_bytes(left: Label, right: Label) -> None:
    assert (left.encode() == right.encode()) == (left == right)


@pytest.mark.parametrize("number", [-1, 1 << 63])
@pytest.mark.parametrize("what", ["round", "attempt"])
def test_numbers_of_a_label_have_a_range(what: str, number: int) -> None:
    with pytest.raises(ProtocolError, match=f"{what} {number} of a label"):
        replace(LABEL, **{what: number})
    assert replace(LABEL, **{what: (1 << 63) - 1}).encode() != LABEL.encode()


# Offers


def test_an_offer_gives_the_session_key(world: World) -> None:
    assert {len(offer) for offer in world.offers.values()} == {OFFER_BYTES}
    assert world.publics == {name: key.public for name, key in world.session.items()}


def test_session_keys_are_fresh() -> None:
    assert len({SessionKey.generate().public for _ in range(20)}) == 20


def test_a_server_cannot_put_its_own_session_key_into_an_offer(world: World) -> None:
    forged = SessionKey.generate().public + world.offers["anna"][32:]
    assert "not signed" in refused("anna", OFFER_STEP, lambda: read_offer(forged, "anna", world.roster, CONTEXT))


def test_an_offer_signed_by_another_key_is_refused(world: World) -> None:
    public = SessionKey.generate().public
    signed = prefixed(b"secfpp/offer/1", world.roster.digest, b"anna", CONTEXT, public)
    forged = public + IdentityKey.generate().sign(signed)
    refused("anna", OFFER_STEP, lambda: read_offer(forged, "anna", world.roster, CONTEXT))
    honest = public + world.identity["anna"].sign(signed)
    assert read_offer(honest, "anna", world.roster, CONTEXT) == public  # the signer was all that was wrong


def test_one_clients_offer_is_not_anothers(world: World) -> None:
    refused("ben", OFFER_STEP, lambda: read_offer(world.offers["anna"], "ben", world.roster, CONTEXT))


def test_an_offer_belongs_to_one_roster_version_run_and_context(world: World) -> None:
    offer = world.offers["anna"]
    later = world.roster.with_client("dora", IdentityKey.generate().public)
    message = refused("anna", OFFER_STEP, lambda: read_offer(offer, "anna", later, CONTEXT))
    assert "roster version 2" in message and later.fingerprint in message and "secfpp keys roster show" in message
    for roster in (replace(world.roster, version=2), replace(world.roster, run="other")):
        refused("anna", OFFER_STEP, lambda roster=roster: read_offer(offer, "anna", roster, CONTEXT))
    refused("anna", OFFER_STEP, lambda: read_offer(offer, "anna", world.roster, b"session 2"))


def test_an_offer_of_a_replaced_key_is_refused(world: World) -> None:
    replaced = world.roster.with_key("anna", IdentityKey.generate().public)
    refused("anna", OFFER_STEP, lambda: read_offer(world.offers["anna"], "anna", replaced, CONTEXT))
    with pytest.raises(ConfigError, match="roster version 2 of run 'trial' lists another key for 'anna'"):
        world.session["anna"].offer(world.identity["anna"], replaced, "anna", CONTEXT)


def test_a_client_unknown_to_the_roster_is_refused(world: World) -> None:
    message = refused("dora", OFFER_STEP, lambda: read_offer(world.offers["anna"], "dora", world.roster, CONTEXT))
    assert "has no such client" in message and "added to everyone's" in message
    with pytest.raises(ConfigError, match="lists no client 'dora'"):
        SessionKey.generate().offer(IdentityKey.generate(), world.roster, "dora", CONTEXT)


@pytest.mark.parametrize("length", [0, 32, OFFER_BYTES - 1, OFFER_BYTES + 1])
def test_an_offer_of_another_length_is_refused(world: World, length: int) -> None:
    offer = (world.offers["anna"] + b"\0")[:length]
    assert f"{length} bytes" in refused("anna", OFFER_STEP, lambda: read_offer(offer, "anna", world.roster, CONTEXT))


@pytest.mark.parametrize("position", range(0, OFFER_BYTES, 5))
def test_a_flipped_bit_of_an_offer_is_noticed(world: World, position: int) -> None:
    refused(
        "anna", OFFER_STEP, lambda: read_offer(flipped(world.offers["anna"], position), "anna", world.roster, CONTEXT)
    )


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


# Envelopes


@pytest.mark.parametrize("plaintext", [b"", b"x", SECRET, bytes(100_000)])
def test_every_pair_talks_in_both_directions_under_one_label(world: World, plaintext: bytes) -> None:
    for sender in CLIENTS:
        for recipient in set(CLIENTS) - {sender}:
            envelope = world.channel[sender].seal(recipient, LABEL, plaintext)
            assert len(envelope) == len(plaintext) + ENVELOPE_OVERHEAD
            assert world.channel[recipient].open(sender, LABEL, envelope) == plaintext


def test_a_channel_knows_the_others(world: World) -> None:
    assert world.channel["ben"].peers == ("anna", "cleo")
    assert repr(world.channel["ben"]) == "Channel('ben', peers: anna, cleo)"
    assert "none" in repr(Channel("ben", world.session["ben"], world.roster.digest, {}))


CHANGES: list[dict[str, object]] = [
    {"component": "clusterer"},
    {"round": 4},
    {"attempt": 2},
    {"step": "sum"},
    {"transcript": b"another"},
    {"transcript": b""},
    {"round": 1, "attempt": 3},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_envelope_opens_under_its_own_label_only(world: World, change: dict[str, object]) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    other = replace(LABEL, **change)  # type: ignore[arg-type]
    refused("anna", other.name, lambda: world.channel["ben"].open("anna", other, envelope))
    assert world.channel["ben"].open("anna", LABEL, envelope) == SECRET  # a refusal uses nothing up


def test_an_envelope_has_one_sender_and_one_recipient(world: World) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("cleo", LABEL.name, lambda: world.channel["ben"].open("cleo", LABEL, envelope))
    refused("anna", LABEL.name, lambda: world.channel["cleo"].open("anna", LABEL, envelope))


def test_an_envelope_sent_back_to_its_sender_is_refused(world: World) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("ben", LABEL.name, lambda: world.channel["anna"].open("ben", LABEL, envelope))


def test_two_clients_behind_one_session_key_are_told_apart_by_name(world: World) -> None:
    # cleo offers anna's public key as its own: the secret is shared, the names are not
    publics = {**world.publics, "cleo": world.publics["anna"]}
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    confused = Channel("ben", world.session["ben"], world.roster.digest, publics)
    refused("cleo", LABEL.name, lambda: confused.open("cleo", LABEL, envelope))
    assert confused.open("anna", LABEL, envelope) == SECRET


def test_a_repeated_envelope_is_refused(world: World) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    assert world.channel["ben"].open("anna", LABEL, envelope) == SECRET
    for channel in (world.channel["ben"], world.open_channel("ben")):
        message = refused("anna", LABEL.name, lambda channel=channel: channel.open("anna", LABEL, envelope))
        assert "repeated" in message


def test_nothing_is_sealed_twice_under_one_label(world: World) -> None:
    world.channel["anna"].seal("ben", LABEL, SECRET)
    for channel in (world.channel["anna"], world.open_channel("anna")):
        with pytest.raises(ProtocolError, match=r"attempt 1: a message to 'ben' was sealed already.*next attempt"):
            channel.seal("ben", LABEL, SECRET)
    world.channel["anna"].seal("cleo", LABEL, SECRET)
    world.channel["anna"].seal("ben", replace(LABEL, attempt=2), SECRET)


def test_sealing_twice_would_show_the_difference_of_both_messages(world: World) -> None:
    class Forgetful(set[tuple[bytes, bytes]]):
        def __contains__(self, _: object) -> bool:
            return False

    world.session["anna"]._spent = Forgetful()
    one, two = (world.channel["anna"].seal("ben", LABEL, text) for text in (b"left", b"love"))
    xor = bytes(a ^ b for a, b in zip(one[:4], two[:4], strict=True))
    assert xor == bytes(a ^ b for a, b in zip(b"left", b"love", strict=True))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, len(SECRET) + ENVELOPE_OVERHEAD - 1])
def test_a_cut_envelope_is_refused(world: World, length: int) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("anna", LABEL.name, lambda: world.channel["ben"].open("anna", LABEL, envelope[:length]))
    refused("anna", LABEL.name, lambda: world.channel["ben"].open("anna", LABEL, envelope + b"\0"))


@pytest.mark.parametrize("position", range(len(SECRET) + ENVELOPE_OVERHEAD))
def test_a_flipped_bit_is_noticed_wherever_it_is(world: World, position: int) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    for bit in (0, 7):
        changed = flipped(envelope, position, bit)
        refused("anna", LABEL.name, lambda changed=changed: world.channel["ben"].open("anna", LABEL, changed))


def test_another_roster_version_opens_nothing(world: World) -> None:
    later = replace(world.roster, version=2)
    behind = Channel("ben", world.session["ben"], later.digest, world.publics)
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("anna", LABEL.name, lambda: behind.open("anna", LABEL, envelope))
    assert behind.pair_key("anna", LABEL) != world.channel["anna"].pair_key("ben", LABEL)


def test_who_has_no_channel_is_refused(world: World) -> None:
    channel = world.channel["anna"]
    for stranger in ("dora", "anna"):
        refused(stranger, LABEL.name, lambda stranger=stranger: channel.open(stranger, LABEL, bytes(50)))
        refused(stranger, LABEL.name, lambda stranger=stranger: channel.check(stranger, LABEL, bytes(TAG_BYTES)))
        for use in (
            lambda s=stranger: channel.seal(s, LABEL, SECRET),
            lambda s=stranger: channel.tag(s, LABEL),
            lambda s=stranger: channel.pair_key(s, LABEL),
        ):
            with pytest.raises(ProtocolError, match=f"'aggregator.share': '{stranger}' has no channel to 'anna'"):
                use()


def test_a_public_key_of_another_length_is_refused(world: World) -> None:
    with pytest.raises(ProtocolError, match="session key of 'ben' has 31 bytes, not 32"):
        Channel("anna", world.session["anna"], world.roster.digest, {"ben": bytes(31)})


LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("public", LOW_ORDER, ids=lambda public: public.hex()[:8])
def test_a_session_key_that_keeps_no_secret_is_refused(world: World, public: bytes) -> None:
    channel = Channel("anna", world.session["anna"], world.roster.digest, {"ben": public})
    for use in (
        lambda: channel.seal("ben", LABEL, SECRET),
        lambda: channel.open("ben", LABEL, bytes(50)),
        lambda: channel.tag("ben", LABEL),
        lambda: channel.check("ben", LABEL, bytes(TAG_BYTES)),
        lambda: channel.pair_key("ben", LABEL),
    ):
        assert "low order" in refused("ben", OFFER_STEP, use)


# Tags


def test_a_tag_is_checked_in_both_directions_as_often_as_one_likes(world: World) -> None:
    for sender in CLIENTS:
        for recipient in set(CLIENTS) - {sender}:
            tag = world.channel[sender].tag(recipient, LABEL)
            assert len(tag) == TAG_BYTES
            assert world.channel[sender].tag(recipient, LABEL) == tag
            for _ in range(2):
                world.channel[recipient].check(sender, LABEL, tag)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_tag_is_good_for_its_own_label_only(world: World, change: dict[str, object]) -> None:
    tag, other = world.channel["anna"].tag("ben", LABEL), replace(LABEL, **change)  # type: ignore[arg-type]
    refused("anna", other.name, lambda: world.channel["ben"].check("anna", other, tag))


def test_a_tag_has_one_sender_and_one_recipient(world: World) -> None:
    tag = world.channel["anna"].tag("ben", LABEL)
    refused("cleo", LABEL.name, lambda: world.channel["ben"].check("cleo", LABEL, tag))
    refused("anna", LABEL.name, lambda: world.channel["cleo"].check("anna", LABEL, tag))
    # sent back to its sender, it does not pass for the other's word
    assert "not authentic" in refused("ben", LABEL.name, lambda: world.channel["anna"].check("ben", LABEL, tag))


def test_a_tag_belongs_to_session_keys_and_a_roster(world: World) -> None:
    tag = world.channel["anna"].tag("ben", LABEL)
    later = replace(world.roster, version=2)
    fresh = SessionKey.generate()
    for channel in (
        Channel("ben", world.session["ben"], later.digest, world.publics),
        Channel("ben", fresh, world.roster.digest, world.publics),
        Channel("ben", world.session["ben"], world.roster.digest, {"anna": fresh.public}),
    ):
        refused("anna", LABEL.name, lambda channel=channel: channel.check("anna", LABEL, tag))


def test_a_cut_or_changed_tag_is_refused(world: World) -> None:
    tag, check = world.channel["anna"].tag("ben", LABEL), world.channel["ben"].check
    bad = [tag[:length] for length in (0, 1, 16, TAG_BYTES - 1)] + [tag + b"\0", bytes(TAG_BYTES)]
    for wrong in bad + [flipped(tag, position, bit) for position in range(TAG_BYTES) for bit in (0, 7)]:
        refused("anna", LABEL.name, lambda wrong=wrong: check("anna", LABEL, wrong))


# Pair keys


def test_a_pair_key_is_the_same_at_both_ends_and_every_time(world: World) -> None:
    for one, other in (("anna", "ben"), ("ben", "cleo"), ("cleo", "anna")):
        key = world.channel[one].pair_key(other, LABEL)
        assert len(key) == 32
        assert key == world.channel[other].pair_key(one, LABEL) == world.channel[one].pair_key(other, LABEL)


def test_pair_keys_differ_by_pair_label_and_use(world: World) -> None:
    channel = world.channel["anna"]
    labels = [LABEL, *(replace(LABEL, **change) for change in CHANGES)]  # type: ignore[arg-type]
    keys = {channel.pair_key(peer, label) for peer in ("ben", "cleo") for label in labels}
    assert len(keys) == 2 * len(labels)
    envelope = channel.seal("ben", LABEL, bytes(64))
    for shown in (channel.pair_key("ben", LABEL), channel.tag("ben", LABEL)):
        pad = ChaCha20Poly1305(shown).encrypt(bytes(12), bytes(64), None)
        assert envelope[:64] != pad[:64]  # another key than the envelope's
    assert channel.pair_key("ben", LABEL) != channel.tag("ben", LABEL)


# The construction, recomputed


def test_keys_and_envelopes_are_made_as_documented_from_the_secret_of_rfc_7748() -> None:
    # scalar, point and product of RFC 7748, section 5.2
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    product = bytes.fromhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    session = SessionKey(X25519PrivateKey.from_private_bytes(scalar))
    channel = Channel("anna", session, b"r" * 32, {"ben": point})

    salt = sha256(prefixed(b"secfpp/channel/1", b"r" * 32, *sorted([session.public, point]))).digest()
    label = prefixed(
        b"secfpp/label/1", b"aggregator", struct.pack(">Q", 3), struct.pack(">Q", 1), b"share", b"transcript"
    )
    info = prefixed(b"secfpp/envelope/2", b"anna", b"ben") + label
    key = HKDF(SHA256(), 32, salt, info).derive(product)
    assert channel.seal("ben", LABEL, SECRET) == ChaCha20Poly1305(key).encrypt(bytes(12), SECRET, info)
    pair = HKDF(SHA256(), 32, salt, prefixed(b"secfpp/pair/2", b"anna", b"ben") + label).derive(product)
    assert channel.pair_key("ben", LABEL) == pair
    tag = HKDF(SHA256(), 32, salt, prefixed(b"secfpp/tag/1", b"anna", b"ben") + label).derive(product)
    assert channel.tag("ben", LABEL) == tag


def test_a_tamper_error_may_know_nobody() -> None:
    error = TamperError(None, "aggregator.sum", "two sums for one round")
    assert (error.party, str(error)) == (None, "step 'aggregator.sum': two sums for one round")


# Nothing secret is shown


def test_no_key_is_in_any_repr_or_error(world: World) -> None:
    anna, ben = world.channel["anna"], world.channel["ben"]
    envelope = anna.seal("ben", LABEL, SECRET)
    shown = [repr(thing) for thing in (*world.session.values(), *world.identity.values(), anna, ben, LABEL)]
    failures: list[Callable[[], object]] = [
        lambda: anna.seal("ben", LABEL, SECRET),
        lambda: anna.seal("dora", LABEL, SECRET),
        lambda: anna.pair_key("dora", LABEL),
        lambda: ben.open("anna", LABEL, flipped(envelope, 3)),
        lambda: ben.check("anna", LABEL, bytes(TAG_BYTES)),
        lambda: ben.open("anna", LABEL, envelope) and ben.open("anna", LABEL, envelope),
        lambda: read_offer(flipped(world.offers["anna"], 50), "anna", world.roster, CONTEXT),
        lambda: read_offer(world.offers["anna"][:9], "anna", world.roster, CONTEXT),
        lambda: world.session["anna"].offer(world.identity["ben"], world.roster, "anna", CONTEXT),
    ]
    for failure in failures:
        with pytest.raises((ProtocolError, ConfigError)) as caught:
            failure()
        shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    secrets = [SECRET, envelope, anna.pair_key("ben", LABEL), *(secret for _, secret in anna._pairs.values())]
    secrets += [anna.tag("ben", LABEL)]
    secrets += [key._private.private_bytes_raw() for key in (*world.session.values(), *world.identity.values())]
    text = "\n".join(shown)
    for secret in secrets:
        for form in (secret.hex(), b64encode(secret).decode(), repr(secret)[2:-1], repr(list(secret))):
            assert form[:12] not in text
    assert world.identity["anna"].public.hex() not in text
