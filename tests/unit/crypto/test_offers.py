from __future__ import annotations

from dataclasses import replace

import pytest

from secfpp.crypto.channel import OFFER_BYTES, OFFER_STEP, SessionKey, read_offer
from secfpp.crypto.roster import IdentityKey
from secfpp.errors import ConfigError
from support.channels import CONTEXT, Trio, flipped, prefixed, refused


@pytest.fixture
def world() -> Trio:
    return Trio()


def test_an_offer_gives_the_session_key(world: Trio) -> None:
    assert {len(offer) for offer in world.offers.values()} == {OFFER_BYTES}
    assert world.publics == {name: key.public for name, key in world.session.items()}


def test_session_keys_are_fresh() -> None:
    assert len({SessionKey.generate().public for _ in range(20)}) == 20


def test_a_server_cannot_put_its_own_session_key_into_an_offer(world: Trio) -> None:
    forged = SessionKey.generate().public + world.offers["anna"][32:]
    assert "not signed" in refused("anna", OFFER_STEP, lambda: read_offer(forged, "anna", world.roster, CONTEXT))


def test_an_offer_signed_by_another_key_is_refused(world: Trio) -> None:
    public = SessionKey.generate().public
    signed = prefixed(b"secfpp/offer/1", world.roster.digest, b"anna", CONTEXT, public)
    forged = public + IdentityKey.generate().sign(signed)
    refused("anna", OFFER_STEP, lambda: read_offer(forged, "anna", world.roster, CONTEXT))
    honest = public + world.identity["anna"].sign(signed)
    assert read_offer(honest, "anna", world.roster, CONTEXT) == public  # the signer was all that was wrong


def test_one_clients_offer_is_not_anothers(world: Trio) -> None:
    refused("ben", OFFER_STEP, lambda: read_offer(world.offers["anna"], "ben", world.roster, CONTEXT))


def test_an_offer_belongs_to_one_roster_version_run_and_context(world: Trio) -> None:
    offer = world.offers["anna"]
    later = world.roster.with_client("dora", IdentityKey.generate().public)
    message = refused("anna", OFFER_STEP, lambda: read_offer(offer, "anna", later, CONTEXT))
    assert "roster version 2" in message and later.fingerprint in message and "secfpp keys roster show" in message
    for roster in (replace(world.roster, version=2), replace(world.roster, run="other")):
        refused("anna", OFFER_STEP, lambda roster=roster: read_offer(offer, "anna", roster, CONTEXT))
    refused("anna", OFFER_STEP, lambda: read_offer(offer, "anna", world.roster, b"session 2"))


def test_an_offer_of_a_replaced_key_is_refused(world: Trio) -> None:
    replaced = world.roster.with_key("anna", IdentityKey.generate().public)
    refused("anna", OFFER_STEP, lambda: read_offer(world.offers["anna"], "anna", replaced, CONTEXT))
    with pytest.raises(ConfigError, match="roster version 2 of run 'trial' lists another key for 'anna'"):
        world.session["anna"].offer(world.identity["anna"], replaced, "anna", CONTEXT)


def test_a_client_unknown_to_the_roster_is_refused(world: Trio) -> None:
    message = refused("dora", OFFER_STEP, lambda: read_offer(world.offers["anna"], "dora", world.roster, CONTEXT))
    assert "has no such client" in message and "added to everyone's" in message
    with pytest.raises(ConfigError, match="lists no client 'dora'"):
        SessionKey.generate().offer(IdentityKey.generate(), world.roster, "dora", CONTEXT)


@pytest.mark.parametrize("length", [0, 32, OFFER_BYTES - 1, OFFER_BYTES + 1])
def test_an_offer_of_another_length_is_refused(world: Trio, length: int) -> None:
    offer = (world.offers["anna"] + b"\0")[:length]
    assert f"{length} bytes" in refused("anna", OFFER_STEP, lambda: read_offer(offer, "anna", world.roster, CONTEXT))


@pytest.mark.parametrize("position", range(0, OFFER_BYTES, 5))
def test_a_flipped_bit_of_an_offer_is_noticed(world: Trio, position: int) -> None:
    refused(
        "anna", OFFER_STEP, lambda: read_offer(flipped(world.offers["anna"], position), "anna", world.roster, CONTEXT)
    )
