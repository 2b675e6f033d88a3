from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from secfpp.crypto.channel import ENVELOPE_OVERHEAD, OFFER_STEP, TAG_BYTES, Channel, Label, SessionKey, read_offer
from secfpp.errors import ConfigError, ProtocolError, TamperError
from support.channels import CHANGES, CLIENTS, CONTEXT, LABEL, SECRET, Trio, flipped, prefixed, refused


@pytest.fixture
def world() -> Trio:
    return Trio()


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


# Envelopes


@pytest.mark.parametrize("plaintext", [b"", b"x", SECRET, bytes(100_000)])
def test_every_pair_talks_in_both_directions_under_one_label(world: Trio, plaintext: bytes) -> None:
    for sender in CLIENTS:
        for recipient in set(CLIENTS) - {sender}:
            envelope = world.channel[sender].seal(recipient, LABEL, plaintext)
            assert len(envelope) == len(plaintext) + ENVELOPE_OVERHEAD
            assert world.channel[recipient].open(sender, LABEL, envelope) == plaintext


def test_a_channel_knows_the_others(world: Trio) -> None:
    assert world.channel["ben"].peers == ("anna", "cleo")
    assert repr(world.channel["ben"]) == "Channel('ben', peers: anna, cleo)"
    assert "none" in repr(Channel("ben", world.session["ben"], world.roster.digest, {}))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_envelope_opens_under_its_own_label_only(world: Trio, change: dict[str, object]) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    other = replace(LABEL, **change)  # type: ignore[arg-type]
    refused("anna", other.name, lambda: world.channel["ben"].open("anna", other, envelope))
    assert world.channel["ben"].open("anna", LABEL, envelope) == SECRET  # a refusal uses nothing up


def test_an_envelope_has_one_sender_and_one_recipient(world: Trio) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("cleo", LABEL.name, lambda: world.channel["ben"].open("cleo", LABEL, envelope))
    refused("anna", LABEL.name, lambda: world.channel["cleo"].open("anna", LABEL, envelope))


def test_an_envelope_sent_back_to_its_sender_is_refused(world: Trio) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("ben", LABEL.name, lambda: world.channel["anna"].open("ben", LABEL, envelope))


def test_two_clients_behind_one_session_key_are_told_apart_by_name(world: Trio) -> None:
    # cleo offers anna's public key as its own: the secret is shared, the names are not
    publics = {**world.publics, "cleo": world.publics["anna"]}
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    confused = Channel("ben", world.session["ben"], world.roster.digest, publics)
    refused("cleo", LABEL.name, lambda: confused.open("cleo", LABEL, envelope))
    assert confused.open("anna", LABEL, envelope) == SECRET


def test_a_repeated_envelope_is_refused(world: Trio) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    assert world.channel["ben"].open("anna", LABEL, envelope) == SECRET
    for channel in (world.channel["ben"], world.open_channel("ben")):
        message = refused("anna", LABEL.name, lambda channel=channel: channel.open("anna", LABEL, envelope))
        assert "repeated" in message


def test_nothing_is_sealed_twice_under_one_label(world: Trio) -> None:
    world.channel["anna"].seal("ben", LABEL, SECRET)
    for channel in (world.channel["anna"], world.open_channel("anna")):
        with pytest.raises(ProtocolError, match=r"attempt 1: a message to 'ben' was sealed already.*next attempt"):
            channel.seal("ben", LABEL, SECRET)
    world.channel["anna"].seal("cleo", LABEL, SECRET)
    world.channel["anna"].seal("ben", replace(LABEL, attempt=2), SECRET)


def test_sealing_twice_would_show_the_difference_of_both_messages(world: Trio) -> None:
    class Forgetful(set[tuple[bytes, bytes]]):
        def __contains__(self, _: object) -> bool:
            return False

    world.session["anna"]._spent = Forgetful()
    one, two = (world.channel["anna"].seal("ben", LABEL, text) for text in (b"left", b"love"))
    xor = bytes(a ^ b for a, b in zip(one[:4], two[:4], strict=True))
    assert xor == bytes(a ^ b for a, b in zip(b"left", b"love", strict=True))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, len(SECRET) + ENVELOPE_OVERHEAD - 1])
def test_a_cut_envelope_is_refused(world: Trio, length: int) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("anna", LABEL.name, lambda: world.channel["ben"].open("anna", LABEL, envelope[:length]))
    refused("anna", LABEL.name, lambda: world.channel["ben"].open("anna", LABEL, envelope + b"\0"))


@pytest.mark.parametrize("position", range(len(SECRET) + ENVELOPE_OVERHEAD))
def test_a_flipped_bit_is_noticed_wherever_it_is(world: Trio, position: int) -> None:
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    for bit in (0, 7):
        changed = flipped(envelope, position, bit)
        refused("anna", LABEL.name, lambda changed=changed: world.channel["ben"].open("anna", LABEL, changed))


def test_another_roster_version_opens_nothing(world: Trio) -> None:
    later = replace(world.roster, version=2)
    behind = Channel("ben", world.session["ben"], later.digest, world.publics)
    envelope = world.channel["anna"].seal("ben", LABEL, SECRET)
    refused("anna", LABEL.name, lambda: behind.open("anna", LABEL, envelope))
    assert behind.pair_key("anna", LABEL) != world.channel["anna"].pair_key("ben", LABEL)


def test_who_has_no_channel_is_refused(world: Trio) -> None:
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


def test_a_public_key_of_another_length_is_refused(world: Trio) -> None:
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
def test_a_session_key_that_keeps_no_secret_is_refused(world: Trio, public: bytes) -> None:
    channel = Channel("anna", world.session["anna"], world.roster.digest, {"ben": public})
    for use in (
        lambda: channel.seal("ben", LABEL, SECRET),
        lambda: channel.open("ben", LABEL, bytes(50)),
        lambda: channel.tag("ben", LABEL),
        lambda: channel.check("ben", LABEL, bytes(TAG_BYTES)),
        lambda: channel.pair_key("ben", LABEL),
    ):
        assert "low order" in refused("ben", OFFER_STEP, use)


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
    info = prefixed(b"secfpp/envelope/3", b"anna", b"ben") + label
    key = HKDF(SHA256(), 32, salt, info).derive(product)
    assert channel.seal("ben", LABEL, SECRET) == AESGCM(key).encrypt(bytes(12), SECRET, info)
    pair = HKDF(SHA256(), 32, salt, prefixed(b"secfpp/pair/2", b"anna", b"ben") + label).derive(product)
    assert channel.pair_key("ben", LABEL) == pair
    tag = HKDF(SHA256(), 32, salt, prefixed(b"secfpp/tag/1", b"anna", b"ben") + label).derive(product)
    assert channel.tag("ben", LABEL) == tag


def test_a_tamper_error_may_know_nobody() -> None:
    error = TamperError(None, "aggregator.sum", "two sums for one round")
    assert (error.party, str(error)) == (None, "step 'aggregator.sum': two sums for one round")


# Nothing secret is shown


def test_no_key_is_in_any_repr_or_error(world: Trio) -> None:
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
