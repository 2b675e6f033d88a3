"""Rounds that somebody spoils: they are lost, and the run goes on."""

from __future__ import annotations

from dataclasses import replace

from secfpp.algorithms.base import FederatedAlgorithm, ServerState
from secfpp.errors import ProtocolError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Program
from secfpp.protocol.refusals import BY_SERVER, Refusal, left_out
from secfpp.runtime.driver import Driver


def colluding(algorithm: FederatedAlgorithm) -> int:
    """How many clients may be lying together, as the method's averages assume; none where nothing is averaged."""
    return int(getattr(getattr(algorithm, "aggregator", None), "colluding", 0))


def run_round(
    algorithm: FederatedAlgorithm,
    driver: Driver,
    state: ServerState,
    cohort: Cohort,
    program: Program[ServerState],
) -> ServerState:
    """The server's state after a round, or the same if somebody spoiled it.

    Whoever did is left out from now on, if it can be told who it was; what happened is noted in `driver.refusals`.

    Args:
        algorithm: the method.
        driver: that runs the round.
        state: before the round.
        cohort: who takes part.
        program: the round.

    Raises:
        ProtocolError: the round failed for another reason, such as too few clients.
    """
    before = left_out(driver.refusals, colluding(algorithm))

    def note(party: str, reason: str, step: str) -> None:
        driver.refusals.append(Refusal(BY_SERVER, party, reason, cohort.round, step))

    try:
        after = driver.run(program)
    except ProtocolError as error:
        spoiled = isinstance(error, TamperError)
        if error.party in cohort.weights or spoiled:
            note(error.party or "", error.reason, getattr(error, "step", ""))
        if not spoiled and left_out(driver.refusals, colluding(algorithm)) == before:
            raise
        return state
    for step in after.spoiled:
        note("", TamperError.reason, step)
    return replace(after, spoiled=())
