from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.checks import COIN_BYTES, bit_defects, combination, commitment, joint_stream
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import TamperError
from secfpp.secure.computing import Plan, blame
from secfpp.secure.secure_kmeans import SecureKMeans
from support.shares import stream

P = PrimeField.p
COINS = {f"c{i}": bytes([i]) * COIN_BYTES for i in range(5)}


@pytest.mark.parametrize("length", [0, 1, 681, 682, 683, 682 * 32, 682 * 32 + 1, 50000])
def test_combinations_are_sums_of_products(length: int) -> None:
    randomness = stream("combination", length)
    rows, weights = randomness.elements((3, length)), randomness.elements((length,))
    rows[:, : length // 2] = P - 1
    expected = [sum(int(a) * int(w) for a, w in zip(row, weights, strict=True)) % P for row in rows]
    assert combination(rows, weights).tolist() == expected


def test_one_changed_entry_changes_the_combination() -> None:
    randomness = stream("changed")
    rows, weights = randomness.elements((1, 5000)), randomness.elements((5000,))
    before = combination(rows, weights)
    for place in (0, 681, 682, 4999):
        other = rows.copy()
        other[0, place] ^= np.uint64(1)
        assert combination(other, weights)[0] != before[0]


def test_bits_and_nothing_else_have_no_defects() -> None:
    values = np.array([0, 1, 2, P - 1, 3, 1 << 60], np.uint64)
    defects = bit_defects(Shared(values, 1))
    assert defects.degree == 2
    assert (defects.values == 0).tolist() == [True, True, False, False, False, False]


def test_every_coin_decides_the_weights() -> None:
    first = joint_stream(COINS, "degree").words((4,)).tolist()
    assert joint_stream(dict(reversed(COINS.items())), "degree").words((4,)).tolist() == first
    others = [joint_stream(COINS, "zero")]
    others += [joint_stream({**COINS, name: bytes(COIN_BYTES - 1) + b"x"}, "degree") for name in COINS]
    others += [joint_stream({k: v for k, v in COINS.items() if k != name}, "degree") for name in COINS]
    others += [joint_stream({**COINS, "c0": COINS["c1"], "c1": COINS["c0"]}, "degree")]
    found = [other.words((4,)).tolist() for other in others]
    assert first not in found
    assert len({tuple(f) for f in found}) == len(found)


def test_commitments_are_to_one_coin_of_one_client() -> None:
    made = {commitment(name, coin) for name in COINS for coin in COINS.values()}
    assert len(made) == 25
    assert commitment("c0", COINS["c0"]) in made


HOLDERS, CLIENTS = [f"c{i:02d}" for i in range(11)], [f"c{i:02d}" for i in range(14)]
PLAN = SecureKMeans(committee=11, dropouts=0, k_max=2, restarts=1).plan(CLIENTS, HOLDERS, 2, 0, 0)


def degree_check(seed: object, degrees: dict[int, int] | None = None, only: dict[int, int] | None = None) -> Elements:
    """What the holders show [holders, clients]; some clients share with another degree, or wrongly to one holder."""
    randomness = stream("degree", seed)
    weights = randomness.elements((40,))
    shown = np.zeros((len(HOLDERS), len(CLIENTS)), np.uint64)
    for client in range(len(CLIENTS)):
        code = LagrangeCode(len(HOLDERS), (degrees or {}).get(client, PLAN.threshold))
        shares = code.encode(randomness.elements((1, 41)), randomness)  # 40 elements and the blind
        if only and client in only:
            shares[only[client], 7] ^= np.uint64(1)
        shown[:, client] = PrimeField.add(combination(shares[:, :40], weights), shares[:, 40])
    return shown


def judge(plan: Plan, shown: Elements, zero: Elements | None = None, present: range = range(11)) -> None:
    zeros = np.zeros(len(CLIENTS), np.uint64)
    blame(plan, CLIENTS, HOLDERS, {h: shown[h] for h in present}, zeros if zero is None else zero, "clusterer.proceed")


def test_honest_parties_are_never_blamed() -> None:
    for seed in range(30):
        judge(PLAN, degree_check(seed))
    judge(PLAN, degree_check("fewer"), present=range(2, 9))


@pytest.mark.parametrize("client", [0, 5, 13])
@pytest.mark.parametrize("degree", [3, 4, 10])
def test_who_shares_with_another_degree_is_named(client: int, degree: int) -> None:
    with pytest.raises(TamperError, match="not of one polynomial of degree T") as caught:
        judge(PLAN, degree_check("wrong", {client: degree}))
    assert caught.value.party == CLIENTS[client]


@pytest.mark.parametrize("holder", [0, 4, 10])
def test_a_holder_that_shows_wrong_shares_is_named(holder: int) -> None:
    shown = degree_check("liar")
    shown[holder] = PrimeField.add(shown[holder], np.full(len(CLIENTS), 5, np.uint64))
    with pytest.raises(TamperError, match="a wrong share of a check was shown") as caught:
        judge(PLAN, shown)
    assert caught.value.party == HOLDERS[holder]


def test_a_lie_about_one_client_gives_nobody_the_blame_of_another() -> None:
    """That one share of one dealer is off may be the dealer's doing or the holder's: nobody can tell."""
    lied = degree_check("one lie")
    lied[4, 9] = PrimeField.add(lied[4, 9], np.array(1, np.uint64))
    for shown in (lied, degree_check("one wrong share", only={9: 4})):
        with pytest.raises(TamperError) as caught:
            judge(PLAN, shown)
        assert caught.value.party is None
        assert "'c09'" in str(caught.value) and "'c04'" in str(caught.value)


def test_a_dealer_is_named_whatever_a_holder_lies_about_others() -> None:
    shown = degree_check("both", {3: 5})
    shown[4, 2] = PrimeField.add(shown[4, 2], np.array(1, np.uint64))
    with pytest.raises(TamperError, match="not of one polynomial") as caught:
        judge(PLAN, shown)
    assert caught.value.party == CLIENTS[3]


@pytest.mark.parametrize("client", [0, 13])
def test_who_shares_something_out_of_range_is_named(client: int) -> None:
    zero = np.zeros(len(CLIENTS), np.uint64)
    zero[client] = 77
    with pytest.raises(TamperError, match="the input that it shared is out of range") as caught:
        judge(PLAN, degree_check("range"), zero)
    assert caught.value.party == CLIENTS[client]


def test_what_is_shown_of_an_honest_dealer_is_uniform() -> None:
    """The combination of the same secrets is a different uniform value every time: the blind is fresh."""
    values = np.concatenate([degree_check(("blind", seed))[0] for seed in range(60)])
    counts = np.bincount((values >> np.uint64(58)).astype(np.int64), minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-5
