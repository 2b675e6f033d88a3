"""k-means as the paper runs it: on coded descriptors, with every distance decoded by the server.

Each client cuts its integer descriptor into l slices and shares them as one Lagrange code, so that a holder's share is
one l-th as long. A holder computes, on its shares, n_s^2 |z_i - mu_s|^2 for every client i and centre mu_s with total
weight n_s: two factors, so values of a polynomial of degree 2 (l + T - 1). The server decodes them, assigns every
client to its nearest centre, and tells the assignment. The result is that of `secfpp.secure.clustering.kmeans`.

What this gives away: all distances between clients and centres, slice by slice. The first centres are clients, so
whoever knows the descriptors of d + 1 clients and sees what the server sees computes everybody's exactly; with the
slices of d / l coordinates, d / l + 1 clients are enough. It is here to be compared with and to be attacked. Shares of
descriptors are secret from T holders, but not from T holders who are told what the server decodes.

Answers carry no masks: each is a function of the shares and of what the server asks, equal however often it asks.

Sources: Hou, Li, Buyukates (arXiv 2505.22447), Secure federated clustering (arXiv 2205.15564), Lagrange coded computing
(arXiv 1806.00939).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import DropoutError, FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.program import Arrays, Ask, ClientId, Program
from secfpp.secure import committee
from secfpp.secure.circuits.server import Dealing
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.kmeans import INERTIA_SCALE, reciprocal
from secfpp.secure.clustering.search import Search
from secfpp.secure.envelopes import ENVELOPES, unpacked
from secfpp.secure.session import Joined, keep, kept

MEASURE = "clusterer.measure"


@dataclass(frozen=True)
class Slices:
    """How descriptors are cut and coded.

    Args:
        code: for as many blocks as there are slices.
        dimensions: of a descriptor; the last slice is filled up with zeros.
    """

    code: LagrangeCode
    dimensions: int

    @classmethod
    def plan(cls, holders: int, threshold: int, tolerated: int, dimensions: int) -> Slices:
        """As many slices as can be decoded when `tolerated` of the holders are gone."""
        blocks = (holders - tolerated - 1) // 2 - threshold + 1
        return cls(LagrangeCode(holders, threshold, max(1, min(blocks, dimensions))), dimensions)

    @property
    def width(self) -> int:
        """Coordinates of a slice."""
        return -(-self.dimensions // self.code.blocks)

    @property
    def needed(self) -> int:
        """Fewest holders that have to answer."""
        return self.code.required(2)

    def encode(self, point: np.ndarray, stream: Stream) -> Elements:
        """Shares [holders, width] of a descriptor [dimensions]."""
        filled = np.zeros(self.code.blocks * self.width, np.int64)
        filled[: self.dimensions] = point
        return self.code.encode(PrimeField.lift(filled).reshape(self.code.blocks, self.width), stream)

    def decode(self, answers: dict[int, Elements]) -> np.ndarray:
        """Integers of degree 2, summed over the slices."""
        total: np.ndarray = PrimeField.lower(self.code.decode(answers, 2)).sum(0)
        return total


def tolerated(holders: int, threshold: int, limit: int, dropouts: int | None) -> int:
    """How many holders may go missing: `dropouts`, or by default what `committee.clustering_threshold` makes of it."""
    most = holders - limit * threshold - 1
    return min(most, holders * 5 // committee.LARGEST if dropouts is None else dropouts)


@dataclass
class Coded:
    """What a holder keeps in memory during one run: its shares [clients, width], once they came."""

    joined: Joined
    slices: Slices
    search: Search
    own: Elements = field(repr=False)
    shares: Elements | None = field(default=None, repr=False)


def deal(joined: Joined, slices: Slices, search: Search, point: np.ndarray) -> Arrays:
    """Share this client's descriptor: one sealed envelope for each holder."""
    party, holders = joined.party, joined.holders
    shares = slices.encode(point, Stream.fresh(party.entropy))
    if party.name in holders:
        keep(joined, Coded(joined, slices, search, shares[holders.index(party.name)]))
    messages = {name: share.data.cast("B") for name, share in zip(holders, shares, strict=True) if name != party.name}
    return {ENVELOPES: joined.channel.seal_each(list(messages), joined.label("deal"), list(messages.values()))}


def measure(context: object, payload: Arrays) -> Arrays:
    """A holder's evaluations: of distances to the centres that `labels` make, or at the end of squared lengths."""
    coded: Coded = kept(context, int(payload["attempt"]), Coded, MEASURE)
    if coded.shares is None:
        coded.shares = _opened(coded, payload)
    labels = payload.get("labels")
    if labels is None:
        return {"evaluations": _distances(coded.shares, _weights(coded.search, None))}
    search = _going_on(coded.search, payload.get("going_on"))
    _require_labels(search, labels)
    if "lengths" in payload:
        return {"evaluations": _lengths(coded.shares, _members(search, labels))}
    return {"evaluations": _distances(coded.shares, _weights(search, labels))}


def _opened(coded: Coded, payload: Arrays) -> Elements:
    joined, width = coded.joined, coded.slices.width
    shares = np.empty((len(joined.clients), width), np.uint64)
    envelopes = unpacked(ENVELOPES, payload, joined.clients, MEASURE)
    for number, client in enumerate(joined.clients):
        share = coded.own
        if client != joined.party.name:
            if client not in envelopes:
                raise ProtocolError(f"step {MEASURE!r}: the shares of {client!r} did not come with it")
            content = joined.channel.open(client, joined.label("deal"), envelopes[client].data)
            share = np.frombuffer(content, np.uint64)
        try:
            if PrimeField.checked(share).shape != (width,):
                raise TamperError(client, MEASURE, f"{share.size} shares, {width} were expected")
        except FieldRangeError as error:
            raise TamperError(client, MEASURE, "shares that are no field elements") from error
        shares[number] = share
    return shares


def _going_on(search: Search, numbers: np.ndarray | None) -> Search:
    """The search with only the runs that go on; `numbers` lists them for each K, int64 [runs]."""
    rows = {k: len(search.groups(k)) for k in search.seeds}
    if numbers is None or numbers.dtype != np.int64 or numbers.shape != (sum(rows.values()),):
        raise ProtocolError(f"step {MEASURE!r}: the numbers of {sum(rows.values())} runs that go on are missing")
    parts = np.split(numbers, np.cumsum(list(rows.values()))[:-1])
    for (k, seeds), part in zip(search.seeds.items(), parts, strict=True):
        if not np.isin(part, np.arange(len(seeds))).all():
            raise ProtocolError(f"step {MEASURE!r}: of {len(seeds)} runs with {k} clusters, {part.tolist()} go on")
    return replace(search, seeds={k: search.seeds[k][part] for k, part in zip(rows, parts, strict=True)})


def _require_labels(search: Search, labels: np.ndarray) -> None:
    shape = (sum(len(seeds) for seeds in search.seeds.values()), search.n)
    if labels.dtype != np.uint8 or labels.shape != shape:
        raise ProtocolError(f"step {MEASURE!r}: assignments {labels.dtype} {labels.shape}, not uint8 {shape}")


def _members(search: Search, labels: np.ndarray) -> np.ndarray:
    """Who is in which cluster of all runs, int64 [centres, n]; `labels` as `_runs` orders them, [runs, n]."""
    members = [label == np.arange(k)[:, None] for (k, _), label in zip(_runs(search), labels, strict=True)]
    return np.concatenate(members).astype(np.int64)


def _weights(search: Search, labels: np.ndarray | None) -> np.ndarray:
    """What every centre is made of, int64 [centres, n]: its seed, and its members `pull` times."""
    seeds = np.concatenate([seeds.reshape(-1) for seeds in search.seeds.values()])
    weights: np.ndarray = (np.arange(search.n) == seeds[:, None]).astype(np.int64)
    return weights if labels is None else weights + search.pull * _members(search, labels)


def _runs(search: Search) -> list[tuple[int, int]]:
    """All runs (K, number), in the order of everything that is sent."""
    return [(k, run) for k, seeds in search.seeds.items() for run in range(len(seeds))]


def _parts(search: Search) -> list[slice]:
    """Where the centres of each run are among all centres."""
    ends = np.cumsum([k for k, _ in _runs(search)]).tolist()
    return [slice(end - k, end) for end, (k, _) in zip(ends, _runs(search), strict=True)]


def _squares(vectors: Elements) -> Elements:
    squares: Elements = PrimeField.sum_axis(PrimeField.mul(vectors, vectors), -1)
    return squares


def _distances(shares: Elements, weights: np.ndarray) -> Elements:
    """Evaluations of n_s^2 |z_i - mu_s|^2 = n_s^2 |z_i|^2 - 2 n_s <z_i, S_s> + |S_s|^2, flat [centres clients]."""
    total = PrimeField.lift(weights.sum(1))[:, None]
    sums = PrimeField.matmul(PrimeField.lift(weights), shares)  # [centres, width]
    mixed = PrimeField.mul(total, PrimeField.matmul(sums, shares.T))
    own = PrimeField.mul(PrimeField.mul(total, total), _squares(shares)[None])
    found = PrimeField.add(PrimeField.sub(own, PrimeField.turn(mixed, 1)), _squares(sums)[:, None])
    return found.reshape(found.size)


def _lengths(shares: Elements, members: np.ndarray) -> Elements:
    """Evaluations of the sum of all squared lengths, then of the squared length of each cluster's sum [1 + centres]."""
    sums = PrimeField.matmul(PrimeField.lift(members), shares)
    return np.concatenate([PrimeField.sum_axis(_squares(shares), 0)[None], _squares(sums)])


def lead(dealing: Dealing, slices: Slices, search: Search) -> Program[Found]:
    """The server's side after everybody has dealt: one exchange per iteration, and one for the choice.

    Raises:
        DropoutError: fewer holders are left than decoding takes.
        TamperError: the answers are not of one polynomial; names the holder if that can be told.
    """
    if not search.seeds:
        return Found(None, 1, {}, {}, 0, {})
    server = _Server(dealing, slices)
    runs, weights, parts = _runs(search), _weights(search, None), _parts(search)
    values = yield from server.ask({}, weights.size)
    distances = values.reshape(weights.shape)
    labels, history = _nearest(distances, weights, parts), {run: list[np.ndarray]() for run in runs}
    _remember(history, runs, labels)
    costs = {
        k: np.array([distances[p].min(0).sum() for (c, _), p in zip(runs, parts, strict=True) if c == k])
        for k in search.seeds
    }
    winners = search.winners(costs)
    kept = [runs.index((k, number)) for k, numbers in winners.items() for number in numbers.tolist()]
    going_on = np.concatenate([winners[k] for k in search.seeds])
    search, runs, labels = _going_on(search, going_on), [runs[i] for i in kept], labels[kept]
    parts = _parts(search)
    for _ in range(search.iterations - 1):
        weights = _weights(search, labels)
        values = yield from server.ask({"going_on": going_on, "labels": labels}, weights.size)
        labels = _nearest(values.reshape(weights.shape), weights, parts)
        _remember(history, runs, labels)
    lengths = yield from server.ask(
        {"going_on": going_on, "labels": labels, "lengths": np.array(True)}, 1 + sum(k for k, _ in runs)
    )
    sizes, inertia = {}, {}
    for run, part, label in zip(runs, parts, labels, strict=True):
        counts = np.bincount(label, minlength=run[0]).tolist()
        sizes[run] = tuple(sorted(counts))
        if search.admits(counts):
            squares = zip(counts, lengths[1:][part].tolist(), strict=True)
            inertia[run] = INERTIA_SCALE * int(lengths[0]) - sum(
                reciprocal(count) * square for count, square in squares
            )
    best = search.best({run: (sizes[run], inertia[run]) for run in inertia})
    if best is None:
        return Found(None, 1, sizes, inertia, 0, history)
    return Found(history[best][-1], best[0], sizes, inertia, 0, history)


def _nearest(distances: np.ndarray, weights: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
    """Assignments of all runs, uint8 [runs, n]."""
    totals = weights.sum(1)
    return np.stack([nearest(distances[part], totals[part]) for part in parts]).astype(np.uint8)


def _remember(
    history: dict[tuple[int, int], list[np.ndarray]], runs: Sequence[tuple[int, int]], labels: np.ndarray
) -> None:
    for run, label in zip(runs, labels, strict=True):
        history[run].append(label.astype(np.int64))


def nearest(distances: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The nearest centre of each point, the first of several: int64 [n].

    Args:
        distances: n_s^2 |z_i - mu_s|^2, int64 [centres, n].
        totals: n_s [centres].
    """
    crossed = distances[:, None] * (totals**2)[None, :, None]  # [s, t, n]: compare [s, t] with [t, s]
    farther = (crossed > crossed.swapaxes(0, 1)) & ~np.eye(len(totals), dtype=bool)[..., None]
    first: np.ndarray = farther.any(1).argmin(0)
    return first


class _Server:
    def __init__(self, dealing: Dealing, slices: Slices) -> None:
        self.attempt, self.holders, self.slices = dealing.attempt, dealing.holders, slices
        self.envelopes = dealing.handed_out()

    def ask(self, question: Arrays, size: int) -> Program[np.ndarray]:
        """Ask all holders for evaluations, and decode them: int64 [size]."""
        common = {"attempt": np.array(self.attempt), **question}
        payloads = {holder: {**common, **self.envelopes.get(holder, {})} for holder in self.holders}
        replies = yield Ask(MEASURE, payloads)
        if len(replies) < self.slices.needed:
            raise DropoutError(MEASURE, self.slices.needed, len(replies), replies.missing)
        answers = {}
        for holder, reply in replies.items():
            self.envelopes.pop(holder, None)
            answers[self.holders.index(holder)] = _evaluations(holder, reply, size)
        try:
            return self.slices.decode(answers)
        except TamperError:
            liars = self.slices.code.liars(answers, 2)
            who = self.holders[liars[0]] if liars else None
            raise TamperError(who, MEASURE, "evaluations that are not of one polynomial") from None


def _evaluations(holder: ClientId, reply: Arrays, size: int) -> Elements:
    values = reply.get("evaluations")
    if values is None or values.shape != (size,):
        raise TamperError(holder, MEASURE, f"{0 if values is None else values.size} values, {size} were expected")
    try:
        return PrimeField.checked(values)
    except FieldRangeError as error:
        raise TamperError(holder, MEASURE, "an answer that holds no field elements") from error
