"""Key agreement of one round after another, and terms that its clients may refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, ClientState
from secfpp.secure import committee
from secfpp.secure.session import (
    Joined,
    join,
    parties_in_memory,
    terms,
    with_keys,
)
from support.secure_runs import between, names
from support.toy import Context, Toy, toy_driver

HELLO, REVEAL = "session.hello", "session.reveal"


def cohort_of(count: int, number: int = 0) -> Cohort:
    return Cohort(dict.fromkeys(names(count), 1), number, 0)


class Agreement:
    """Clients, and the key agreement of one round after another."""

    def __init__(self, count: int, **driver: Any) -> None:
        self.parties = parties_in_memory(names(count))
        self.contexts = {name: Context(name, [], party) for name, party in self.parties.items()}
        self.driver = toy_driver({c: ClientState() for c in self.parties}, Toy(), parties=self.parties, **driver)

    def keys(
        self, number: int = 0, size: int = committee.LARGEST, on_ask: Any = None, on_replies: Any = None
    ) -> Cohort:
        self.driver.round_ = number
        program = with_keys(cohort_of(len(self.parties), number), size)
        found: Cohort = self.driver.run(between(program, on_ask, on_replies))
        return found

    def join(self, client: str, agreed: Arrays) -> Joined:
        return join(self.contexts[client], "aggregator", agreed)


def agreed_by(cohort: Cohort, size: int = committee.LARGEST, **about: Any) -> dict[str, np.ndarray]:
    return dict(terms("aggregator", cohort, about, size))


def changed(agreed: Mapping[str, np.ndarray], **facts: Any) -> dict[str, np.ndarray]:
    return {**agreed, "about": np.array(json.dumps({**json.loads(agreed["about"].item()), **facts}))}
