"""Clients that do not clip their updates, and prove it as well as that can be done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.bounds import Bound, digits_of
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.projections import coefficients_of
from secfpp.crypto.randomness import Stream
from secfpp.protocol.program import ClientState
from secfpp.secure.means import client, secure_mean, updates
from secfpp.secure.means.updates import Base
from secfpp.secure.tasks import Task

P = PrimeField.p


def digits_for(bound: Bound, vector: Elements, project: bytes) -> np.ndarray:
    """The bits that a proof of `vector` should have, where numbers are in range; else of others that are."""
    coefficients = PrimeField.lift(coefficients_of(project, bound.projections, vector.size))
    projected = PrimeField.matmul(coefficients, vector[:, None])[:, 0].tolist()
    slack = (bound.limit - sum(int(v) ** 2 for v in vector.tolist())) % P
    near = [(y + bound.reach) % P % (2 * bound.reach) for y in projected]
    fitting = digits_of(np.array(near), bound.digits), digits_of(np.array([slack % (bound.limit + 1)]), bound.slack)
    return np.concatenate(fitting).astype(np.uint64)


def unclipped(clients: Collection[int], factor: float) -> Callable[..., Any]:
    """An encoding that leaves out clipping for clients of these weights: all numbers of their updates are `factor`."""
    honest = updates.encoded_update

    def encoded(state: ClientState, slot: str, codec: Any, own: int) -> np.ndarray:
        if own not in clients:
            return honest(state, slot, codec, own)
        long = np.rint(np.full(state[slot].shape, factor) * 2.0**codec.bits).astype(np.int64)
        return PrimeField.lift(long * own)

    return encoded


def do_not_clip(monkeypatch: pytest.MonkeyPatch, weights: Collection[int], factor: float) -> None:
    """Let the clients of these weights send long updates, with proofs whose bits fit as well as bits can."""
    honest = Bound.prove

    def prove(self: Bound, project: bytes, parts: Sequence[tuple[np.ndarray, Stream]]) -> Elements:
        return np.concatenate([proven(self, project, *part) for part in parts])

    def proven(self: Bound, project: bytes, vector: np.ndarray, stream: Stream) -> Elements:
        padded = np.zeros(self.blocks * self.length, np.int64)
        padded[: vector.size] = vector
        if float(np.linalg.norm(padded.astype(float))) ** 2 <= self.limit:
            return honest(self, project, [(vector, stream)])
        elements = PrimeField.lift(padded)
        return self.prove_digits(elements[None], digits_for(self, elements, project)[None], [stream])

    monkeypatch.setattr(Bound, "prove", prove)
    monkeypatch.setattr(secure_mean, "encoded_update", unclipped(weights, factor))


def tell_another_version(monkeypatch: pytest.MonkeyPatch, name: str, version: int) -> None:
    """Let one client seal its shares under another version than it tells the server."""
    honest = client.MeanRun.seal_shares

    def seal(self: client.MeanRun, update: Elements, own: Base, stream: Stream) -> Task[np.ndarray]:
        return honest(self, update, replace(own, version=version) if self.name == name else own, stream)

    monkeypatch.setattr(client.MeanRun, "seal_shares", seal)
