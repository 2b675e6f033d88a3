from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from secfpp.crypto.checks import COIN_BYTES, combination, joint_stream, parity_weights
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import TamperError
from secfpp.secure.circuits.checks import blame
from support.shares import stream

COINS = {f"c{i}": bytes([i]) * COIN_BYTES for i in range(5)}
HOLDERS, CLIENTS = [f"c{i:02d}" for i in range(11)], [f"c{i:02d}" for i in range(14)]
THRESHOLD = 2


def shown(seed: object, degrees: dict[int, int] | None = None, only: dict[int, int] | None = None) -> Elements:
    """Combined shares [holders, clients]; some clients share with another degree, or wrongly to one holder."""
    randomness = stream("degree", seed)
    weights = randomness.elements((40,))
    combined = np.zeros((len(HOLDERS), len(CLIENTS)), np.uint64)
    for client in range(len(CLIENTS)):
        code = LagrangeCode(len(HOLDERS), (degrees or {}).get(client, THRESHOLD))
        shares = code.encode(randomness.elements((1, 40)), randomness)
        if only and client in only:
            shares[only[client], 7] ^= np.uint64(1)
        combined[:, client] = combination(shares, weights)
    return combined


def judge(combined: Elements, zero: Elements | None = None, present: Sequence[int] = range(11)) -> Elements:
    """Open the checks of the present holders, and judge them; returns what was opened [responders, clients]."""
    degree = np.zeros((len(present), len(CLIENTS)), np.uint64)
    for holder in present:
        weights = parity_weights(present, holder, THRESHOLD, joint_stream(COINS, "parity"))
        degree = PrimeField.add(degree, PrimeField.mul(weights[:, None], combined[holder]))
    zeros = np.zeros(len(CLIENTS), np.uint64) if zero is None else zero
    blame(CLIENTS, [HOLDERS[h] for h in present], degree, zeros, "clusterer.proceed")
    return degree


def test_honest_parties_are_never_blamed_and_nothing_is_shown_of_them() -> None:
    for seed in range(30):
        assert not judge(shown(seed)).any()
    judge(shown("fewer"), present=range(2, 9))
    judge(shown("others"), present=(0, 3, 4, 7, 8, 10))


@pytest.mark.parametrize("client", [0, 5, 13])
@pytest.mark.parametrize("degree", [3, 4, 10])
def test_who_shares_with_another_degree_is_named(client: int, degree: int) -> None:
    with pytest.raises(TamperError, match="not of one polynomial of degree T") as caught:
        judge(shown("wrong", {client: degree}))
    assert caught.value.party == CLIENTS[client]


@pytest.mark.parametrize("holder", [0, 4, 10])
def test_a_holder_that_answers_wrongly_about_everybody_is_named(holder: int) -> None:
    combined = shown("liar")
    combined[holder] = PrimeField.add(combined[holder], np.full(len(CLIENTS), 5, np.uint64))
    with pytest.raises(TamperError, match="wrongly about the shares of everybody") as caught:
        judge(combined)
    assert caught.value.party == HOLDERS[holder]


def test_a_lie_about_one_client_gives_nobody_the_blame_of_another() -> None:
    """That one share of one dealer is off may be the dealer's doing or the holder's: nobody can tell."""
    lied = shown("one lie")
    lied[4, 9] = PrimeField.add(lied[4, 9], np.array(1, np.uint64))
    for combined in (lied, shown("one wrong share", only={9: 4})):
        with pytest.raises(TamperError) as caught:
            judge(combined)
        assert caught.value.party is None
        assert "'c09'" in str(caught.value) and "'c04'" in str(caught.value)


def test_a_dealer_is_named_whatever_a_holder_lies_about_others() -> None:
    combined = shown("both", {3: 5})
    combined[4, 2] = PrimeField.add(combined[4, 2], np.array(1, np.uint64))
    with pytest.raises(TamperError, match="not of one polynomial") as caught:
        judge(combined)
    assert caught.value.party == CLIENTS[3]


def test_where_nothing_fits_nobody_is_named() -> None:
    with pytest.raises(TamperError, match="no check fits") as caught:
        judge(stream("garbage").elements((len(HOLDERS), len(CLIENTS))))
    assert caught.value.party is None


@pytest.mark.parametrize("client", [0, 13])
def test_who_shares_something_out_of_range_is_named(client: int) -> None:
    zero = np.zeros(len(CLIENTS), np.uint64)
    zero[client] = 77
    with pytest.raises(TamperError, match="what it shared is out of range") as caught:
        judge(shown("range"), zero)
    assert caught.value.party == CLIENTS[client]
