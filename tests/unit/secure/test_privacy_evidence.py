"""Evidence, not proof: what an adversary gets says no more than the outputs, and the tests would notice if it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pytest

from secfpp.attacks.trilateration import exact, seed_rows, trilaterate
from secfpp.crypto import masks
from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.channel import Channel
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.material import Material
from secfpp.crypto.minimum import DrawnRotations
from secfpp.crypto.sharing import LagrangeCode, weights_at_zero
from secfpp.errors import LeakyProtocolWarning
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.protocol.transcript import SERVER, Transcript
from secfpp.secure.clustering import kmeans
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.search import Search
from secfpp.secure.clustering.secpc import SecPC
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.session import parties_in_memory
from support.secure_runs import names
from support.telling_apart import distinguish, told_apart
from support.toy import Toy, toy_driver
from support.views import View, read_without_pads, real_view, simulated_view

# ---- What one holder and the server see


N = 6
SEARCH = Search.plan(
    n=N,
    dimensions=1,
    radius=3,
    k=None,
    k_max=2,
    restarts=2,
    finalists=1,
    iterations=2,
    min_size=3,
    pull=1,
    seed=1,
    round_=0,
)
CIRCUIT = SecPC(SEARCH, threshold=1, limit=5, levels=1)


def lloyd(points: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return kmeans.lloyd(kmeans.inner_products(points), seeds, SEARCH.iterations, SEARCH.pull)


def outputs(points: np.ndarray) -> tuple[Any, ...]:
    """All that becomes public of `points` [n, 1]."""
    found = {}
    inner = kmeans.inner_products(points)
    for k, runs in SEARCH.winners({k: kmeans.seed_costs(inner, seeds) for k, seeds in SEARCH.seeds.items()}).items():
        for run, labels in zip(runs.tolist(), lloyd(points, SEARCH.seeds[k][runs]), strict=True):
            found[k, run] = labels, np.bincount(labels, minlength=k).tolist()
    admitted = {run: (s, kmeans.inertia(inner, lab)) for run, (lab, s) in found.items() if SEARCH.admits(s)}
    best = SEARCH.best(admitted)
    together = None if best is None else (found[best][0][:, None] == found[best][0]).tobytes()
    sizes = tuple((run, *sorted(s)) for run, (_, s) in found.items())
    return best, together, sizes, tuple((run, inertia) for run, (_, inertia) in admitted.items())


@cache
def twins() -> tuple[np.ndarray, np.ndarray]:
    """Two inputs with equal outputs, two clusters and one point of the corrupt client, and with different distances."""
    seen: dict[tuple[Any, ...], np.ndarray] = {}
    for rest in product(range(-3, 4), repeat=N - 1):
        points = np.array([0, *rest])[:, None]
        distances = abs(points - points.T)
        if len(set(rest)) < N - 2:
            continue
        key = outputs(points)
        if key[0] is None or key[0][0] < 2:
            continue
        other = seen.setdefault(key, points)
        if (abs(other - other.T) != distances).sum() > 2 * N:
            return other, points
    raise AssertionError("there are none")


def features(view: View) -> np.ndarray:
    """Each number's bits from the top, from the middle and from further down, and what an expert would read."""
    numbers = view.numbers()
    turned = [PrimeField.turn(numbers, power) / PrimeField.p for power in (0, 20, 40)]
    read = read_without_pads(view, N)
    return np.concatenate([*turned, np.log2(1.0 + np.abs(read)), np.clip(read, -9, 9)])


def sample(points: np.ndarray, count: int, name: str = "") -> np.ndarray:
    return np.stack([features(real_view(CIRCUIT, points, (name, run))[0]) for run in range(count)])


def test_the_twins_differ_in_all_but_their_outputs() -> None:
    one, other = twins()
    found, also = (real_view(CIRCUIT, points, 0)[1] for points in (one, other))
    assert found.labels is not None and found.k == 2
    np.testing.assert_array_equal(found.labels, also.labels)
    assert found.inertia == also.inertia
    assert {run: sorted(s) for run, s in found.sizes.items()} == {run: sorted(s) for run, s in also.sizes.items()}
    assert one[0] == other[0] == 0
    gram = [(points @ points.T).tolist() for points in (one, other, -one)]
    assert gram[0] != gram[1] and gram[0] == gram[2]


def check_views(runs: int) -> None:
    one, other = twins()
    real = sample(one, runs)
    assert not told_apart(real, sample(other, runs, "other"))
    assert not told_apart(real, sample(-one, runs, "mirrored"))
    found = real_view(CIRCUIT, one, 0)[1]
    made_up = np.stack([features(simulated_view(CIRCUIT, found, one[0], run)) for run in range(runs)])
    assert not told_apart(real, made_up)


def test_views_tell_no_more_than_outputs() -> None:
    check_views(40)


@pytest.mark.slow
def test_views_tell_no_more_than_outputs_in_many_runs() -> None:
    check_views(500)


def bare(values: Sequence[Elements], responders: Sequence[int], own: int, threshold: int, pad_key: object) -> Elements:
    """`masks.masked` without pads."""
    weight = weights_at_zero(tuple(responders))[responders.index(own)]
    return PrimeField.mul(np.concatenate([value.reshape(-1) for value in values]), weight)


def unturned(candidates: int, count: int, pool: Any, **how: bool) -> Any:
    """`DrawnRotations.prepare` that rotates by nothing."""
    drawn = yield from _PREPARE(candidates, count, pool, **how)
    return drawn if drawn.signs is None else replace(drawn, signs=Shared(np.ones_like(drawn.signs.values), 1))


_PREPARE = DrawnRotations.prepare


def known(value: int) -> Any:
    """A pool's method that deals `value` only."""
    return lambda self, *about: Shared(np.full(about[-1], value, np.uint64), 1)


BREAKS = {
    "answers without pads": mock.patch.object(masks, "masked", bare),
    "masks without their low part": mock.patch.object(Material, "integers", known(0)),
    "minima that are not rotated": mock.patch.object(DrawnRotations, "prepare", unturned),
    "uniform elements that are known": mock.patch.object(Material, "uniform", known(1)),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_mask_is_noticed(broken: str) -> None:
    one, other = twins()
    runs, found = 40 if broken == "minima that are not rotated" else 24, real_view(CIRCUIT, one, 0)[1]
    with BREAKS[broken]:
        real, another = sample(one, runs), sample(other, runs, "other")
    made_up = np.stack([features(simulated_view(CIRCUIT, found, one[0], run)) for run in range(runs)])
    right, p = distinguish(real, made_up)
    assert right >= 0.9, (right, p)
    if broken != "minima that are not rotated":  # the twins' assignments are equal
        right, p = distinguish(real, another)
        assert right >= 0.9, (right, p)


# ---- Who is where: trilateration


def observed(reveal: str, d: int, n: int = 18) -> tuple[SecureKMeans, np.ndarray, Found, Transcript, Search]:
    """A run of clients in four groups: what clusters it, everybody's descriptor, what came out, all messages."""
    rng = np.random.default_rng(d)
    centres = rng.normal(size=(4, d))
    centres *= 0.7 / np.linalg.norm(centres, axis=1, keepdims=True)
    reals = centres[np.arange(n) % 4] + 0.15 / d**0.5 * rng.normal(size=(n, d))
    settings: dict[str, Any] = {"reveal": reveal, "dimensions": d, "k_max": 3, "restarts": 16, "committee": 8}
    clusterer = SecureKMeans(**settings)
    states = {client: ClientState({"z": z.astype(np.float32)}) for client, z in zip(names(n), reals, strict=True)}
    transcript = Transcript(keep_contents=True)
    driver = toy_driver(states, Toy(clusterer=clusterer), None, parties_in_memory(names(n)), transcript=transcript)
    found, _ = driver.run(clusterer.find(Cohort(dict.fromkeys(names(n), 1), 0, 5), "z"))
    points = np.stack([clusterer.described(states[c]["z"], 5) for c in names(n)]).astype(np.int64)
    return clusterer, points, found, transcript, clusterer.search(n, 5, 0)


def sent_to_server(transcript: Transcript, step: str, key: str) -> list[dict[str, np.ndarray]]:
    """What the clients answered in each exchange of a step."""
    exchanges: dict[int, dict[str, np.ndarray]] = {}
    for message in transcript.seen_by(SERVER):
        if message.step == step and message.direction == "up":
            assert message.content is not None
            exchanges.setdefault(message.exchange, {})[message.client] = wire.decode(message.content)[key]
    return list(exchanges.values())


@pytest.mark.parametrize("d", [4, 8])
def test_distances_give_everybody_away_to_d_plus_one_colluders(d: int) -> None:
    with pytest.warns(LeakyProtocolWarning):
        clusterer, points, _, transcript, search = observed("distances", d)
    answers = sent_to_server(transcript, "clusterer.measure", "evaluations")[0]
    holders = sorted(answers)
    slices = clusterer.slices(len(holders), clusterer.collusion(len(points)))
    numbered = {holders.index(holder): values for holder, values in answers.items()}
    distances = slices.decode(numbered).reshape(-1, len(points))
    seeds = seed_rows(search)
    colluders = list(dict.fromkeys(seeds.tolist()))[: d + 1]
    rows = [seeds.tolist().index(client) for client in colluders]
    guess = trilaterate(distances[rows], points[colluders])
    assert exact(guess, points, colluders) == 1.0


def test_distances_of_slices_take_fewer_colluders() -> None:
    with pytest.warns(LeakyProtocolWarning):
        clusterer, points, _, transcript, search = observed("distances", 8)
    answers = sent_to_server(transcript, "clusterer.measure", "evaluations")[0]
    slices = clusterer.slices(len(answers), clusterer.collusion(len(points)))
    assert slices.code.blocks == 2 and slices.width == 4
    sliced = PrimeField.lower(slices.code.decode(dict(enumerate(answers[h] for h in sorted(answers))), 2))
    seeds = seed_rows(search)
    colluders = list(dict.fromkeys(seeds.tolist()))[:5]
    rows = [seeds.tolist().index(client) for client in colluders]
    guess = [
        trilaterate(distances.reshape(-1, len(points))[rows], points[colluders, 4 * part : 4 * part + 4])
        for part, distances in enumerate(sliced)
    ]
    assert exact(np.concatenate(guess, 1), points, colluders) == 1.0


@pytest.mark.parametrize("d", [4, 8])
def test_what_the_default_opens_gives_nobody_away(d: int) -> None:
    """The attacker is given every value that the server opens, sizes, inertias, the partition and d + 1 descriptors.

    It reads each exchange's values as distances, wherever they might start, and the first one's as inner products; or
    takes the mean of the colluders in a victim's cluster.
    """
    _, points, found, transcript, search = observed("partition", d)
    exchanges = sent_to_server(transcript, "clusterer.proceed", "masked")
    opened = [PrimeField.lower(PrimeField.sum(a.values(), next(iter(a.values())).shape)) for a in exchanges]
    n, seeds = len(points), seed_rows(search)
    colluders = list(dict.fromkeys(seeds.tolist()))[: d + 1]
    rows = [seeds.tolist().index(client) for client in colluders]
    tables = [
        values[start:][: len(seeds) * n].reshape(-1, n)[rows]
        for values in opened
        for start in range(0, max(0, len(values) - len(seeds) * n + 1), max(1, len(values) // 50))
    ]
    inner = np.zeros((n, n))
    inner[np.triu_indices(n)] = opened[0][: n * (n + 1) // 2]
    inner = inner + inner.T - np.diag(inner.diagonal())
    tables.append((inner.diagonal()[None] + inner.diagonal()[:, None] - 2 * inner)[colluders])
    assert len(tables) > 20 and len(found.inertia) > 1
    guesses = [trilaterate(table.astype(np.float64), points[colluders]) for table in tables]
    labels = np.zeros(n, np.int64) if found.labels is None else found.labels
    near = [[c for c in colluders if labels[c] == labels[i]] or colluders for i in range(n)]
    guesses.append(np.rint(np.stack([points[group].mean(0) for group in near])))
    assert [exact(guess, points, colluders) for guess in guesses] == [0.0] * len(guesses)
    true = ((points[colluders][:, None] - points[None]) ** 2).sum(-1)
    assert exact(trilaterate(true, points[colluders]), points, colluders) == 1.0  # the attack works


# ---- What travels


def contents(transcript: Transcript) -> list[bytes]:
    return [message.content for message in transcript if message.content is not None]


def found_in(messages: list[bytes], shares: list[Elements]) -> int:
    """How many of all shares appear in a message; 32 bytes of each are looked for."""
    everything = b"\0".join(messages)
    return sum(share.tobytes()[-32:] in everything for share in shares)


def small_run() -> tuple[list[bytes], list[Elements], Transcript]:
    """All messages of a default run of 7 clients, and all shares that were dealt in it."""
    shares: list[Elements] = []
    encode = LagrangeCode.encode

    def spying(self: LagrangeCode, data: Elements, stream: Any) -> Elements:
        made = encode(self, data, stream)
        shares.extend(made.copy())
        return made

    rng = np.random.default_rng(3)
    points = {client: rng.normal(size=4) / 3 for client in names(7)}
    clusterer = SecureKMeans(dimensions=4, k_max=2, restarts=4, finalists=2, min_cluster_size=3)
    states = {client: ClientState({"z": z.astype(np.float32)}) for client, z in points.items()}
    transcript = Transcript(keep_contents=True)
    driver = toy_driver(states, Toy(clusterer=clusterer), None, parties_in_memory(points), transcript=transcript)
    with mock.patch.object(LagrangeCode, "encode", spying):
        driver.run(clusterer.assign(Cohort(dict.fromkeys(points, 1), 0, 5), "z", None))
    for client, state in states.items():
        integers = clusterer.described(state["z"], 5)
        for form in (state["z"], integers, integers.astype(np.int64), PrimeField.lift(integers)):
            assert not any(form.tobytes() in content for content in contents(transcript)), client
    return contents(transcript), shares, transcript


def test_no_message_holds_a_descriptor_or_a_share() -> None:
    messages, shares, _ = small_run()
    assert len(shares) == 7 * 7 and min(share.size for share in shares) > 40
    assert found_in(messages, shares) == 0


def test_shares_that_are_not_sealed_are_found() -> None:
    def seal(self: Channel, recipients: Any, label: object, plaintexts: Any) -> np.ndarray:
        return np.stack([np.frombuffer(bytes(plaintext) + bytes(16), np.uint8) for plaintext in plaintexts])

    with (
        mock.patch.object(Channel, "seal_each", seal),
        mock.patch.object(Channel, "open", lambda self, sender, label, envelope: bytes(envelope)[:-16]),
    ):
        messages, shares, _ = small_run()
    assert found_in(messages, shares) == 7 * 6  # one's share of one's own does not travel


def test_equal_inputs_give_no_equal_envelopes() -> None:
    seen: list[bytes] = []
    for _ in range(2):
        for message in small_run()[2]:
            if message.step == "clusterer.deal" and message.direction == "up":
                assert message.content is not None
                seen += [row.tobytes() for row in wire.decode(message.content)["envelopes"]]
    assert len(seen) == len(set(seen)) == 2 * 7 * 6
    prefixes = {envelope[:16] for envelope in seen}
    assert len(prefixes) == len(seen)
