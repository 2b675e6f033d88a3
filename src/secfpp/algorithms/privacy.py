"""Differential privacy as settings of a method, and what a client keeps of what it released."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from secfpp.algorithms.training import ClientContext
from secfpp.errors import ConfigError, PrivacyError, Problem, ProtocolError
from secfpp.privacy.events import Event, Unit, from_json, to_json
from secfpp.privacy.ledger import Terms
from secfpp.protocol.program import ClientState

EXPOSURE = 0.01
"""Share of the budget that the exposure takes: one number, which needs to be known to a few percent."""
_UNITS: dict[str, Unit] = {"class_means": "record", "prompts": "client"}
_CLIPS = {"class_means": 0.8, "prompts": 0.5, "dpsgd": 0.25, "published": 10.0}
_OF_FEATURES = ("class_means", "dpsgd")
"""Mechanisms that shorten what features of length 1 are in."""


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What a client is promised.

    Attributes:
        mechanism: ``none``; ``class_means``: class sums are shared under noise, and prompts are trained at home only;
            ``prompts``: averages of prompts are shared under noise, and no class sums; ``dpsgd``: each gradient step
            on a shared prompt is made under noise, by the client itself; ``central``: by a server that is trusted with
            each client's gradients; ``published``: of dp_fpl, with the noise that its authors' code has.
        unit: whose presence is hidden, which the mechanism decides: by ``class_means`` one training image with its
            label, a ``record``, as by all others; by ``prompts`` all of a ``client``.
        epsilon: what all releases of a run cost, for each client, if it makes all that are planned and each once; of
            published, what the authors' formula says, which is much less than what they cost.
        delta: the probability with which that need not hold; well below one over the number of units.
        epsilon_budget: the most that all runs on the data may cost together; a run ends before it costs more.
        clip: of class_means, length to which images' differences from everybody's class mean are shortened in a group's
            sums, 0..2, by default 0.8; of prompts, length to which a client's update is shortened, by default 0.5; of
            dpsgd, length to which an image's gradient by the class features, over the logit scale, is shortened, by
            default 0.25; none is longer than 1.42. Of central, length to which an image's gradient by each part of a
            prompt is shortened, by default 1; of published, that of a batch's mean gradient, by default 10.
        everybody: of class_means, share of the budget for everybody's class sums, and `scatter` for their scatter; the
            rest is for the group's. Shares add up as squared ratios of norm and noise do.
        scatter: see `everybody`.
        count: of class_means, what an image adds to the count of its class, where its feature has length 1.
        releases: of prompts, the most averages that a client gives to in a run; of the others, the most rounds it
            trains in. Of prompts and dpsgd, noise is made for as many as the run has rounds for, if these are fewer.
        present: of prompts, share of the clients asked with whom an average is made at least; noise is made for these.
    """

    mechanism: Literal["none", "class_means", "prompts", "dpsgd", "central", "published"] = "none"
    unit: Literal["record", "client"] | None = None
    epsilon: float = 8.0
    delta: float = 1e-5
    epsilon_budget: float | None = None
    clip: float | None = None
    everybody: float = 0.25
    scatter: float = 0.05
    count: float = 0.3
    releases: int = 10
    present: float = 0.8

    def __post_init__(self) -> None:
        problems = []
        if self.on and self.unit not in (None, self.hides):
            allowed = f"{self.hides}, or left out: it is what privacy.mechanism = {self.mechanism} hides"
            problems.append(Problem("privacy.unit", self.unit, allowed))
        if not 0 < self.epsilon < math.inf:
            problems.append(Problem("privacy.epsilon", self.epsilon, "a positive finite number"))
        if not 0 < self.delta < 1:
            problems.append(Problem("privacy.delta", self.delta, "above 0 and below 1"))
        if self.epsilon_budget is not None and not self.epsilon <= self.epsilon_budget < math.inf:
            allowed = f"at least privacy.epsilon = {self.epsilon:g}, which one run costs, or none"
            problems.append(Problem("privacy.epsilon_budget", self.epsilon_budget, allowed))
        if not (self.everybody > 0 and self.scatter > 0 and self.everybody + self.scatter + EXPOSURE < 1):
            allowed = f"positive shares of the budget, below {1 - EXPOSURE:g} together"
            problems.append(Problem("privacy.everybody, scatter", (self.everybody, self.scatter), allowed))
        if not 0 < self.bound < math.inf:
            problems.append(Problem("privacy.clip", self.clip, "a positive finite number"))
        elif self.mechanism in _OF_FEATURES and self.bound > 2:
            problems.append(Problem("privacy.clip", self.clip, "above 0 and at most 2: features have length 1"))
        if not 0 < self.count < math.inf:
            problems.append(Problem("privacy.count", self.count, "a positive finite number"))
        if self.releases < 1:
            problems.append(Problem("privacy.releases", self.releases, "a whole number from 1"))
        if not 0 < self.present <= 1:
            problems.append(Problem("privacy.present", self.present, "a share, above 0 and at most 1"))
        if problems:
            raise ConfigError(problems)

    @property
    def on(self) -> bool:
        """Whether anything is promised."""
        return self.mechanism != "none"

    @property
    def of_sums(self) -> bool:
        """Whether class sums are shared under noise."""
        return self.mechanism == "class_means"

    @property
    def of_prompts(self) -> bool:
        """Whether prompts are averaged under noise."""
        return self.mechanism == "prompts"

    @property
    def of_steps(self) -> bool:
        """Whether gradient steps are made under noise."""
        return self.mechanism == "dpsgd"

    @property
    def central(self) -> bool:
        """Whether a server that sees gradients makes the noise in their sums."""
        return self.mechanism in ("central", "published")

    @property
    def hides(self) -> Unit:
        """The unit of the mechanism."""
        return _UNITS.get(self.mechanism, "record")

    @property
    def bound(self) -> float:
        """`clip`, or the mechanism's own."""
        return _CLIPS.get(self.mechanism, 1.0) if self.clip is None else self.clip

    @property
    def terms(self) -> Terms | None:
        """What the ledger of the data is asked to hold to."""
        return Terms(self.hides, "add_remove", self.delta, self.epsilon_budget) if self.on else None


def refused_mechanism(privacy: Privacy, known: Sequence[str]) -> list[Problem]:
    """What is wrong with a mechanism for a method that has those of these names only."""
    if privacy.mechanism in known:
        return []
    allowed = f"{' or '.join(known)}: this method shares nothing else that noise could be added to"
    return [Problem("privacy.mechanism", privacy.mechanism, allowed)]


def charge(contexts: Sequence[ClientContext], event: Event, round_: int) -> None:
    """Write a release down that touches the data of these clients, of one ledger, in one entry.

    Raises:
        PrivacyError: there is no ledger, or the budget of a client does not allow the release.
    """
    ledger = contexts[0].ledger
    if ledger is None or any(context.ledger is not ledger for context in contexts):
        raise PrivacyError("nothing is released under differential privacy without a ledger in the context")
    ledger.charge(event, [context.client for context in contexts], round_)


def charged_round(
    contexts: Sequence[ClientContext], states: Sequence[ClientState], event: Event, privacy: Privacy, round_: int
) -> list[ClientState]:
    """The states of clients that have written a round of training down, see `charge`.

    Raises:
        ProtocolError: a client has made all rounds that its noise is for.
        PrivacyError: see `charge`.
    """
    if any(len(released(state)) >= privacy.releases for state in states):
        raise ProtocolError(f"asked to train after all {privacy.releases} rounds of this run (privacy.releases)")
    charge(contexts, event, round_)
    return [noted(state, round_, event) for state in states]


def noted(state: ClientState, round_: int, event: Event) -> ClientState:
    """The state of a client that has written a release down in the ledger."""
    known = [{"round": number, "event": to_json(one)} for number, one in released(state)]
    text = json.dumps([*known, {"round": round_, "event": to_json(event)}])
    return state.replace(released=np.frombuffer(text.encode(), np.uint8))


def released(state: ClientState) -> list[tuple[int, Event]]:
    """The releases of a client in this run, with their rounds; what a killed attempt at a round made is not in it."""
    told = json.loads(state["released"].tobytes() or b"[]") if "released" in state else []
    return [(int(one["round"]), from_json(one["event"])) for one in told]
