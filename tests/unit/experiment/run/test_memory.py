from __future__ import annotations

from typing import Any

import pytest

from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.secfpp import SecFPP
from secfpp.errors import ConfigError
from secfpp.experiment.run import memory
from secfpp.experiment.run.memory import grouping_memory, require_memory
from secfpp.protocol import wire
from secfpp.secure.clustering.cost import AgreementCost
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.secure_agreement import SecureAgreement

GIB = 2**30


def machine(monkeypatch: pytest.MonkeyPatch, total: float | None, free: float | None, resident: float = 0.5) -> None:
    figures = {"total_memory": total, "free_memory": free, "resident_memory": resident}
    for name, value in figures.items():
        monkeypatch.setattr(memory, name, lambda value=value: value if value is None else int(value * GIB))


def test_memory_is_that_of_the_cost_formula() -> None:
    cost = AgreementCost(SecureAgreement(), 30, 36 * 16, 3, 1)
    assert grouping_memory(SecFPP(), 30, 36, 3) == cost.memory
    for nothing in (SecFPP(clusterer=PlainAgreement()), PromptFL(), object()):
        assert grouping_memory(nothing, 30, 36, 3) == 0


FIFTY = AgreementCost(SecureAgreement(), 50, 36 * 16, 0, 1)
NEEDED = FIFTY.memory / GIB + 0.5


def test_what_it_takes_is_told_beside_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 32, 20)
    told = f"grouping 50 clients on shares takes about {NEEDED:.1f} GiB of memory"
    assert require_memory(SecFPP(), 50, 36, 0) == f"{told}, 20.0 GiB are free"
    machine(monkeypatch, 32, 1)
    assert require_memory(SecFPP(), 50, 36, 0) == (
        f"{told}, 1.0 GiB are free: close other programs, or expect it to be killed"
    )
    machine(monkeypatch, None, None)
    assert require_memory(SecFPP(), 50, 36, 0) == told
    machine(monkeypatch, 32, 20, 0.1)
    for clients in (7, 12):
        assert require_memory(SecFPP(), clients, 36, 0) == ""
    assert require_memory(SecFPP(clusterer=PlainAgreement()), 1000, 36, 0) == ""


def test_more_than_the_machine_has_is_refused_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1.5, 1)
    with pytest.raises(ConfigError) as refused:
        require_memory(SecFPP(), 50, 36, 0)
    (problem,) = refused.value.problems
    assert (problem.key, problem.value) == ("clusterer.restarts", 192)
    message = f"{FIFTY.largest_message / 2**20:.3g} MiB"
    assert f"about {NEEDED:.1f} GiB of memory, this machine has 1.5 GiB; a message to a holder has {message}" in (
        problem.allowed
    )
    least = int(problem.allowed.removeprefix("at most ").split(":")[0])
    assert require_memory(SecFPP(clusterer=SecureAgreement(restarts=least)), 50, 36, 0)
    with pytest.raises(ConfigError):
        require_memory(SecFPP(clusterer=SecureAgreement(restarts=least + 1)), 50, 36, 0)
    machine(monkeypatch, 0.52, 0.1)
    with pytest.raises(ConfigError, match=r'not even 1 fits, lower clusterer.k_max: .* "plain_agreement"'):
        require_memory(SecFPP(), 50, 36, 0)


@pytest.mark.parametrize("clients", [200, 1000])
def test_the_numbers_of_a_descriptor_count_before_training(clients: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 10**6, 10**6)
    monkeypatch.setattr(wire, "MAX_MESSAGE", 1 << 26)
    method: Any = SecFPP()
    with pytest.raises(ConfigError, match=r"clusterer.restarts = 192: at most \d+: .* are allowed") as refused:
        require_memory(method, clients, 36, 0)
    least = int(str(refused.value).partition("at most ")[2].split(":")[0])
    fitting = SecFPP(clusterer=SecureAgreement(restarts=least))
    assert require_memory(fitting, clients, 36, 0)
    fitting.require(clients)
