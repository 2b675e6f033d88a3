from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secfpp.crypto.channel import TAG_BYTES, Channel, SessionKey
from support.channels import CHANGES, CLIENTS, LABEL, Trio, flipped, refused


@pytest.fixture
def world() -> Trio:
    return Trio()


def test_a_tag_is_checked_in_both_directions_as_often_as_one_likes(world: Trio) -> None:
    for sender in CLIENTS:
        for recipient in set(CLIENTS) - {sender}:
            tag = world.channel[sender].tag(recipient, LABEL)
            assert len(tag) == TAG_BYTES
            assert world.channel[sender].tag(recipient, LABEL) == tag
            for _ in range(2):
                world.channel[recipient].check(sender, LABEL, tag)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_tag_is_good_for_its_own_label_only(world: Trio, change: dict[str, object]) -> None:
    tag, other = world.channel["anna"].tag("ben", LABEL), replace(LABEL, **change)  # type: ignore[arg-type]
    refused("anna", other.name, lambda: world.channel["ben"].check("anna", other, tag))


def test_a_tag_has_one_sender_and_one_recipient(world: Trio) -> None:
    tag = world.channel["anna"].tag("ben", LABEL)
    refused("cleo", LABEL.name, lambda: world.channel["ben"].check("cleo", LABEL, tag))
    refused("anna", LABEL.name, lambda: world.channel["cleo"].check("anna", LABEL, tag))
    # sent back to its sender, it does not pass for the other's word
    assert "not authentic" in refused("ben", LABEL.name, lambda: world.channel["anna"].check("ben", LABEL, tag))


def test_a_tag_belongs_to_session_keys_and_a_roster(world: Trio) -> None:
    tag = world.channel["anna"].tag("ben", LABEL)
    later = replace(world.roster, version=2)
    fresh = SessionKey.generate()
    for channel in (
        Channel("ben", world.session["ben"], later.digest, world.publics),
        Channel("ben", fresh, world.roster.digest, world.publics),
        Channel("ben", world.session["ben"], world.roster.digest, {"anna": fresh.public}),
    ):
        refused("anna", LABEL.name, lambda channel=channel: channel.check("anna", LABEL, tag))


def test_a_cut_or_changed_tag_is_refused(world: Trio) -> None:
    tag, check = world.channel["anna"].tag("ben", LABEL), world.channel["ben"].check
    bad = [tag[:length] for length in (0, 1, 16, TAG_BYTES - 1)] + [tag + b"\0", bytes(TAG_BYTES)]
    for wrong in bad + [flipped(tag, position, bit) for position in range(TAG_BYTES) for bit in (0, 7)]:
        refused("anna", LABEL.name, lambda wrong=wrong: check("anna", LABEL, wrong))


def test_a_pair_key_is_the_same_at_both_ends_and_every_time(world: Trio) -> None:
    for one, other in (("anna", "ben"), ("ben", "cleo"), ("cleo", "anna")):
        key = world.channel[one].pair_key(other, LABEL)
        assert len(key) == 32
        assert key == world.channel[other].pair_key(one, LABEL) == world.channel[one].pair_key(other, LABEL)


def test_pair_keys_differ_by_pair_label_and_use(world: Trio) -> None:
    channel = world.channel["anna"]
    labels = [LABEL, *(replace(LABEL, **change) for change in CHANGES)]  # type: ignore[arg-type]
    keys = {channel.pair_key(peer, label) for peer in ("ben", "cleo") for label in labels}
    assert len(keys) == 2 * len(labels)
    envelope = channel.seal("ben", LABEL, bytes(64))
    for shown in (channel.pair_key("ben", LABEL), channel.tag("ben", LABEL)):
        pad = AESGCM(shown).encrypt(bytes(12), bytes(64), None)
        assert envelope[:64] != pad[:64]  # another key than the envelope's
    assert channel.pair_key("ben", LABEL) != channel.tag("ben", LABEL)
