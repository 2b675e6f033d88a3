"""What the server and one holder see of a tiny computation: for real, and of a search made up from outputs alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from unittest import mock

import numpy as np

from secfpp.crypto import lookup, masks, minimum
from secfpp.crypto.arithmetic import Computation, Pool, Shared, Square, inverse_square_root
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.lookup import hidden_bits
from secfpp.crypto.material import Deal, Material
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode, alpha, weights_at_zero
from secfpp.secure.circuits.plan import estimated
from secfpp.secure.clustering import agreed, clusters, runs, secpc
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.secpc import SecPC
from support.shares import stream

HOLDERS, THRESHOLD, LIMIT = 6, 1, 5
CORRUPT = 0
"""The holder that tells the server all it knows; its point is that of client 0."""
HONEST = tuple(range(1, HOLDERS))
CODE = LagrangeCode(HOLDERS, THRESHOLD)


@dataclass
class View:
    """All that the server and the corrupt holder receive.

    Attributes:
        received: the corrupt holder's shares of honest points [n - 1, d], and of honest dealings.
        opened: of each exchange the sums that the server computes, before a square is replaced by its root.
        answers: of each exchange the masked answers of the honest holders [honest, size].
    """

    received: list[Elements]
    opened: list[Elements] = field(default_factory=list)
    answers: list[Elements] = field(default_factory=list)

    def numbers(self) -> Elements:
        """Everything, flat."""
        return np.concatenate([part.reshape(-1) for part in (*self.received, *self.opened, *self.answers)])


class Circuit(Protocol):
    """Anything with a computation."""

    def run(self, inputs: Shared, pool: Pool) -> Computation[Any]: ...


def real_view(circuit: Circuit, points: np.ndarray, seed: object) -> tuple[View, Any]:
    """Run the computation on `points` [n, d] with honest holders, all in step; the view and what came out."""
    randomness, deal = stream("real", seed), _deal(circuit, points.shape)
    shares = CODE.encode(PrimeField.lift(points)[None], randomness)
    dealt = [CODE.encode(deal.make(randomness)[None], randomness) for _ in range(HOLDERS)]
    view = View([shares[CORRUPT][1:], np.stack([dealt[h][CORRUPT] for h in HONEST])])
    computations = [
        circuit.run(Shared(shares[h], 1), Material(deal, [vector[h] for vector in dealt], LIMIT))
        for h in range(HOLDERS)
    ]
    pending = [next(computation) for computation in computations]
    while True:
        pads = _pads("real", seed, len(view.opened))
        answers = [_answer(pending[h], h, pads) for h in range(HOLDERS)]
        opened = PrimeField.sum(answers, answers[0].shape)
        view.answers.append(np.stack([answers[h] for h in HONEST]))
        view.opened.append(opened)
        values = _as_told(pending[0], opened)
        try:
            pending = [computation.send(values) for computation in computations]
        except StopIteration as stop:
            return view, stop.value


def simulated_view(circuit: SecPC | Agreed, found: Found, own_point: np.ndarray, seed: object) -> View:
    """A view made without anybody's point but the corrupt holder's [d], and without anybody's randomness but its own.

    Honest shares, whatever is opened under a mask, and all but one of the honest answers are uniform. A rotated minimum
    has one zero at a uniform place, and a contest of runs of `SecPC` has it at the run that went on. Outputs are taken
    from `found`, those sizes that are outputs in a uniform order.
    """
    shape = (circuit.search.n, circuit.search.dimensions)
    made_up, own, deal = stream("simulated", seed), stream("own", seed), _deal(circuit, shape)
    points = made_up.elements(shape)
    points[0] = CODE.encode(PrimeField.lift(own_point)[None], own)[CORRUPT]
    dealt = made_up.elements((HOLDERS, deal.size))
    dealt[CORRUPT] = CODE.encode(deal.make(own)[None], own)[CORRUPT]
    view = View([points[1:], dealt[list(HONEST)]])
    outputs = _outputs(circuit, found, made_up)
    with (
        mock.patch.object(runs, "opened", _as_output),
        mock.patch.object(clusters, "opened", _as_output),
        mock.patch.object(secpc, "opened", _as_output),
        mock.patch.object(agreed, "opened", _as_output),
        mock.patch.object(lookup, "opened", _as_masked),
        mock.patch.object(minimum, "opened", _as_rotated),
    ):
        computation = circuit.run(Shared(points, 1), Material(deal, list(dealt), LIMIT))
        pending = next(computation)
        while True:
            public = [_made_up(value, outputs, made_up, circuit.search.n).reshape(-1) for value in pending]
            opened = np.concatenate(public)
            mine = _answer(pending, CORRUPT, _pads("simulated", seed, len(view.opened)))
            answers = made_up.elements((len(HONEST), opened.size))
            others = PrimeField.sum([mine, *answers[1:]], opened.shape)
            answers[0] = PrimeField.sub(opened, others)
            view.opened.append(opened)
            view.answers.append(answers)
            try:
                pending = computation.send(_as_told(pending, opened))
            except StopIteration:
                return view


class Output(Shared):
    """Opened as a result."""

    __slots__ = ()


class MaskedInteger(Shared):
    """Opened as a small integer under a mask that is a sum of integers."""

    __slots__ = ()


class Rotated(Shared):
    """Opened as a rotated minimum [places, count]."""

    __slots__ = ()


def _as_output(values: Sequence[Shared]) -> Computation[list[Elements]]:
    return list((yield [Output(value.values, value.degree) for value in values]))


def _as_masked(values: Sequence[Shared]) -> Computation[list[Elements]]:
    return list((yield [MaskedInteger(value.values, value.degree) for value in values]))


def _as_rotated(values: Sequence[Shared]) -> Computation[list[Elements]]:
    return list((yield [Rotated(value.values, value.degree) for value in values]))


def _made_up(value: Shared, outputs: Iterator[Elements], made_up: Stream, n: int) -> Elements:
    if isinstance(value, Output):
        output = next(outputs)
        assert output.shape == value.shape
        return output
    if isinstance(value, MaskedInteger):
        return _mask(value.shape, n.bit_length(), made_up)
    uniform = made_up.elements(value.shape)
    if isinstance(value, Square):
        return PrimeField.mul(uniform, uniform)
    if isinstance(value, Rotated):
        places, count = value.shape
        uniform[made_up.permutations(count, places)[:, 0], np.arange(count)] = 0
    return uniform


def _mask(shape: tuple[int, ...], bits: int, made_up: Stream) -> Elements:
    """What a small integer looks like under its mask: uniform low bits, and a sum of T + 1 integers above them."""
    high = [made_up.integers(hidden_bits(bits, THRESHOLD + 1), shape) for _ in range(THRESHOLD + 1)]
    return made_up.integers(bits, shape) + (np.sum(high, axis=0, dtype=np.uint64) << np.uint64(bits))


def _outputs(circuit: SecPC | Agreed, found: Found, made_up: Stream) -> Iterator[Elements]:
    """What is opened as results, in order."""
    if isinstance(circuit, Agreed):
        assert found.labels is not None
        together = found.labels[:, None] == found.labels
        yield together[np.triu_indices(len(together), 1)].astype(np.uint64)
        return
    going_on = {k: [r for c, r in found.sizes if c == k] for k in circuit.search.seeds}
    for k, numbers in going_on.items():
        groups = circuit.search.groups(k)
        if groups.shape[1] > 1:
            contest = made_up.elements((groups.shape[1], len(numbers)))
            contest[np.argmax(groups == np.array(numbers)[:, None], 1), np.arange(len(numbers))] = 0
            yield contest
    for k, numbers in going_on.items():
        order = made_up.permutations(len(numbers), k)
        yield np.array([np.array(found.sizes[k, r])[order[i]] for i, r in enumerate(numbers)], np.uint64)
    for run, sizes in found.sizes.items():
        if circuit.search.admits(sizes):
            yield PrimeField.lift(np.array(found.inertia[run]))
    if found.labels is not None:
        yield (found.labels[:, None] == found.labels).astype(np.uint64)


def _answer(pending: Sequence[Shared], holder: int, pads: bytes) -> Elements:
    def key(other: int) -> bytes:
        low, high = sorted((holder, other))
        return stream(pads, low, high).words((4,)).tobytes()

    return masks.masked([value.values for value in pending], tuple(range(HOLDERS)), holder, THRESHOLD, key)


def _pads(kind: str, seed: object, exchange: int) -> bytes:
    return repr((kind, seed, exchange)).encode()


def _as_told(pending: Sequence[Shared], opened: Elements) -> list[Elements]:
    values = masks.split(opened, [value.shape for value in pending])
    return [inverse_square_root(v) if isinstance(of, Square) else v for of, v in zip(pending, values, strict=True)]


def _deal(circuit: Circuit, shape: tuple[int, int]) -> Deal:
    return Deal(HOLDERS, THRESHOLD, dict(estimated(circuit.run, shape, THRESHOLD, LIMIT).demand))


def tops_without_pads(view: View, count: int) -> Elements:
    """The coefficients of x^2 of the first numbers that are opened [count], where answers have no pads; else noise."""
    weights = weights_at_zero(tuple(range(HOLDERS)))
    points = [alpha(h) for h in HONEST[:3]]
    top = np.zeros(count, np.uint64)
    for i, point in enumerate(points):
        scale = int(weights[HONEST[i]])
        for other in points[:i] + points[i + 1 :]:
            scale = scale * (point - other) % PrimeField.p
        inverse = np.array(pow(scale, -1, PrimeField.p), np.uint64)
        top = PrimeField.add(top, PrimeField.mul(view.answers[0][i, : top.size], inverse))
    return top


def read_without_pads(view: View, n: int) -> np.ndarray:
    """Coordinates of the honest clients [n - 1], as they can be read where answers have no pads and d = 1; else noise.

    Inner products are opened under masks of degree T. Without pads, the coefficients of x^2 of what is opened are
    the products of the sharings' own coefficients m_i, which with the corrupt holder's shares z_i + m_i give z_i.
    """
    top = tops_without_pads(view, n * (n + 1) // 2)
    products = np.zeros((n, n), np.uint64)
    products[np.triu_indices(n)] = top
    square = products[1, 1]
    root = inverse_square_root(np.maximum(square, np.uint64(1)).reshape(1))  # 1 / m_1, up to its sign
    m = PrimeField.mul(products[1, 1:], root)
    assert alpha(CORRUPT) == 1
    candidates = [PrimeField.lower(f(view.received[0][:, 0], m)) for f in (PrimeField.add, PrimeField.sub)]
    return min(candidates, key=lambda z: float(np.abs(z).astype(np.float64).sum()))
