"""What a summary says that security costs, against what was counted otherwise in the same run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset
from secfpp.experiment.results.summary import summarize
from secfpp.experiment.run.result_files import known_algorithm
from secfpp.experiment.spec.schema import dump
from secfpp.models.backbone import Backbone
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Program
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll

SHORT = LocalTraining(steps=1, batch=4)
SLEEP = 0.2


@dataclass(frozen=True)
class Guarded(PlainMean):
    """Says that it is secure."""

    kind: ClassVar[str] = "guarded"

    def protection(self, n_clients: int) -> Mapping[str, object]:
        return {"reveal": "sums", "holders": n_clients, "threshold": n_clients // 3}


def told(algorithm: Any, run: RunResult, participation: float = 1.0) -> Any:
    """The entry on security, by way of the table that a run directory keeps of the method."""
    known = known_algorithm({"name": algorithm.name, **dump(algorithm)})
    assert known == algorithm
    return summarize("icons", "mini", 2, [run], {run.method: known}, participation)["methods"][run.method]["security"]


def test_figures_of_a_run_are_those_of_its_messages_and_of_its_server(
    dataset: FederatedDataset, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PlainAgreement.assign

    def slow(self: PlainAgreement, cohort: Cohort, slot: str, previous: Assignment | None) -> Program[Assignment]:
        found = yield from whole(self, cohort, slot, previous)
        time.sleep(SLEEP)
        return found

    monkeypatch.setattr(PlainAgreement, "assign", slow)
    plain = {
        "clusterer": PlainAgreement(),
        "aggregator": PlainMean(min_responders=4, most_weight=0.5),
        "poll": PlainPoll(),
    }
    algorithm = SecFPP(training=SHORT, effort=1.0, local_share=0.5, **plain)
    transcript = Transcript()
    run = train(dataset, backbone, algorithm, method="secfpp", seed=0, rounds=2, transcript=transcript)
    found = told(algorithm, run)
    assert (found["reveal"], found["holders"], found["threshold"]) == ("everything to the server", None, None)

    phases = {"clusterer": "clustering", "aggregator": "aggregation", "poll": "polls", "method": "training"}
    assert list(found["bytes"]) == list(found["seconds"]) == list(phases.values())
    sent = transcript.totals(lambda m: (m.step.partition(".")[0], m.direction))
    for component, phase in phases.items():
        up, down = sent[component, "up"].size, sent[component, "down"].size
        of_a_client = {"client_up": up / len(run.clients), "client_down": down / len(run.clients)}
        assert found["bytes"][phase] == {**of_a_client, "server": up + down}
        exchanges = {m.exchange for m in transcript if m.step.startswith(f"{component}.")}
        assert found["exchanges_by_phase"][phase] == len(exchanges)
        assert found["seconds"][phase] == run.costs.seconds[component]
    assert found["exchanges"] == len({m.exchange for m in transcript})
    assert found["seconds"]["clustering"] >= SLEEP
    assert sum(found["seconds"].values()) <= run.seconds


def test_a_part_that_is_secure_shows(dataset: FederatedDataset, backbone: Backbone) -> None:
    algorithm = PromptFL(training=SHORT, aggregator=Guarded())
    run = train(dataset, backbone, algorithm, method="promptfl", seed=0, rounds=1, participation=0.5)
    found = told(algorithm, run, participation=0.5)
    assert (found["reveal"], found["holders"], found["threshold"]) == ("sums", 4, 1)
    assert "aggregation" not in found and "clustering" not in found
