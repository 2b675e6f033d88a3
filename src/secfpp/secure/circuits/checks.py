"""The checks of a computation on shares, which run beside it; see `secfpp.crypto.checks`.

A holder that has dealt is `Committed` to a coin, which it shows in the first exchange. Told those of a quorum, it has
`Weighed` what it holds, and answers the checks in the second exchange. Then it is `Done`. A stage is left only when
what was told is as it should be, so an error can not make a holder skip one. The server's side is `leading`.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.checks import COIN_BYTES, combination, commitment, joint_stream, parity_weights
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import unmasked
from secfpp.crypto.sharing import weights_at_zero
from secfpp.errors import ReplyError, TamperError
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure.circuits.messages import Answering, Told, elements_in
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.session import Joined, as_array, as_bytes


class Checks(Protocol):
    """A stage of a holder's checks."""

    def answer(self, answering: Answering) -> Arrays:
        """What is added to the answer of this exchange."""
        ...

    def told(self, told: Told, step_name: str) -> tuple[Checks, bytes]:
        """The stage after this exchange, and what was told for it, which is part of the history.

        Raises:
            TamperError: something else than an honest server tells.
        """
        ...


@dataclass(frozen=True)
class Committed:
    """Before anything is opened.

    Args:
        joined: the holder's place.
        plan: the computation.
        coin: what it committed to.
        inputs: its shares of everybody's input [clients, width].
        dealt: its shares of every holder's dealing.
    """

    joined: Joined
    plan: Plan
    coin: bytes = field(repr=False)
    inputs: Elements = field(repr=False)
    dealt: Sequence[Elements] = field(repr=False)

    def answer(self, answering: Answering) -> Arrays:
        """The coin."""
        return {"coin": as_array(self.coin)}

    def told(self, told: Told, step_name: str) -> tuple[Checks, bytes]:
        """See `Checks.told`: whatever else is said of coins later, these are part of the history."""
        coins = self._coins(told, step_name)
        said = json.dumps({name: coin.hex() for name, coin in coins.items()}).encode()
        return Weighed(coins, *self._weighed(coins)), said

    def _coins(self, told: Told, step_name: str) -> dict[ClientId, bytes]:
        """The coins of a quorum, as they were committed to."""
        holders, own = self.joined.holders, self.joined.party.name
        coins = {name: as_bytes(told.coins.get(name)) for name in holders if name in told.coins}
        if len(coins) < self.plan.needed or coins.get(own, self.coin) != self.coin:
            raise TamperError(
                None, step_name, "the coins of a quorum did not come, or not the one that this client showed"
            )
        for name, coin in coins.items():
            if commitment(name, coin) != as_bytes(told.commitments.get(name)):
                raise TamperError(name, step_name, "the coin shown is not what was committed to")
        return coins

    def _weighed(self, coins: Mapping[ClientId, bytes]) -> tuple[Elements, Elements]:
        """Shares of what must vanish: the checks of degree [clients], and those of what was shared [clients]."""
        deal = self.plan.deal
        weights = joint_stream(coins, "degree")
        degree = combination(self.inputs, weights.elements((self.plan.width,)))
        members = [self.joined.clients.index(name) for name in self.joined.holders]
        factors = weights.elements((deal.size,))
        material = np.concatenate([combination(vector[None], factors) for vector in self.dealt])
        degree[members] = PrimeField.add(degree[members], material)
        weights = joint_stream(coins, "zero")
        defects = self.plan.defects(Shared(self.inputs, 1))
        zero = combination(defects.values, weights.elements((defects.shape[1],)))
        spoiled = np.stack([deal.defects(vector).values for vector in self.dealt])
        zero[members] = PrimeField.add(zero[members], combination(spoiled, weights.elements((spoiled.shape[1],))))
        return degree, zero


@dataclass(frozen=True)
class Weighed:
    """With the shares of what must vanish.

    Args:
        coins: which decided the weights.
        degree: the checks of degree [clients].
        zero: those of what was shared [clients].
    """

    coins: Mapping[ClientId, bytes]
    degree: Elements = field(repr=False)
    zero: Elements = field(repr=False)

    def answer(self, answering: Answering) -> Arrays:
        """The checks as these responders open them: what must vanish [responders, clients], and [clients]."""
        responders, own = answering.responders, answering.own
        parity = parity_weights(responders, own, answering.threshold, joint_stream(self.coins, "parity"))
        opening = PrimeField.inverse(
            weights_at_zero(responders)[responders.index(own)]
        )  # which masking multiplies with
        checks = [PrimeField.mul(PrimeField.mul(parity, opening)[:, None], self.degree), self.zero]
        return {"checks": answering.masked("check", checks)}

    def told(self, told: Told, step_name: str) -> tuple[Checks, bytes]:
        """See `Checks.told`."""
        return Done(), b""


@dataclass(frozen=True)
class Done:
    """After the checks."""

    def answer(self, answering: Answering) -> Arrays:
        """Nothing."""
        return {}

    def told(self, told: Told, step_name: str) -> tuple[Checks, bytes]:
        """See `Checks.told`."""
        return self, b""


class Answers(NamedTuple):
    """The replies of all responders to one exchange."""

    responders: Sequence[ClientId]
    replies: Mapping[ClientId, Arrays]


def leading(clients: Sequence[ClientId], step_name: str) -> Generator[Mapping[ClientId, np.ndarray], Answers, None]:
    """The server's side: takes the answers of one exchange after another, and gives the coins that they showed.

    It has to be started with ``next``.

    Raises:
        TamperError: see `blame`.
    """
    shown = yield {}
    coins = {holder: coin_in(holder, shown.replies[holder]) for holder in shown.responders}
    del shown  # all that was answered, which is large
    checked = yield coins
    judge(clients, checked, step_name)
    del checked
    while True:
        yield {}


def judge(clients: Sequence[ClientId], checked: Answers, step_name: str) -> None:
    """Add up what holders answered as the checks, and judge it.

    Raises:
        TamperError: see `blame`.
    """
    responders, size = checked.responders, (len(checked.responders) + 1) * len(clients)
    answers = [elements_in(checked.replies[h], "checks", size, h, step_name) for h in responders]
    degree, zero = unmasked(answers, [(len(responders), len(clients)), (len(clients),)])
    blame(clients, responders, degree, zero, step_name)


def coin_in(holder: ClientId, reply: Arrays) -> np.ndarray:
    """The coin that a holder showed.

    Raises:
        ReplyError: it showed none.
    """
    coin = reply.get("coin")
    if coin is None or coin.dtype != np.uint8 or coin.shape != (COIN_BYTES,):
        raise ReplyError(holder, f"showed no coin of {COIN_BYTES} bytes")
    return coin


def blame(clients: Sequence[str], responders: Sequence[str], degree: Elements, zero: Elements, step: str) -> None:
    """Judge the opened checks.

    Args:
        clients: who dealt.
        responders: the holders that answered.
        degree: [responders, clients], without that responder's share.
        zero: [clients].
        step: for the error.

    Raises:
        TamperError: names who dealt something else than it should, or which holder answered wrongly about everything;
            nobody if one share is off, which may be its dealer's doing or its holder's, or if nothing fits.
    """
    if not degree.any() and not zero.any():
        return
    if degree.all():
        raise TamperError(None, step, "no check fits: the holders were told different things, or several cheat")
    fitting = degree == 0  # a wrong share fits where its holder is left out
    suspects = {
        client: [r for r, fits in zip(responders, fitting[:, i], strict=True) if fits]
        for i, client in enumerate(clients)
        if not fitting[:, i].all()
    }
    for client, left_out in suspects.items():
        if not left_out:
            raise TamperError(client, step, "its shares are not of one polynomial of degree T")
    for client, (holder, *_) in suspects.items():
        if len(suspects) == len(clients):
            raise TamperError(holder, step, "it answered wrongly about the shares of everybody")
        raise TamperError(None, step, f"the share that {client!r} dealt to {holder!r} is wrong: one of the two cheats")
    for i in np.flatnonzero(zero).tolist():
        raise TamperError(clients[i], step, "what it shared is out of range: its input, or permutations that it dealt")
