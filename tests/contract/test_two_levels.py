"""SecFPP's two levels: a domain part that a group learns, and a private part that comes last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError
from secfpp.models.backbone import Backbone
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.clusterer import OneCluster, OracleClusters
from support.method_runs import make


def run(dataset: FederatedDataset, backbone: Backbone, rounds: int = 4, **settings: Any) -> RunResult:
    options = {name: settings.pop(name) for name in ("dropouts", "transcript") if name in settings}
    algorithm = make("secfpp", **{"clusterer": OracleClusters(), **settings})
    return train(dataset, backbone, algorithm, method="secfpp", seed=0, rounds=rounds, **options)


def test_the_private_part_comes_last_and_is_sent_nowhere(dataset: FederatedDataset, backbone: Backbone) -> None:
    transcript = Transcript()
    result = run(dataset, backbone, 5, local_share=0.4, transcript=transcript)
    last = [message for message in transcript if message.round > 3]
    assert {message.step for message in last} == {"method.personalize"}
    empty = max(message.size for message in transcript if message.step == "method.train" and message.direction == "up")
    assert all(message.size == empty for message in last if message.direction == "up")
    assert result.domain_prompts is not None and result.familiar is not None
    before = run(dataset, backbone, 5, local_share=0.4, local_lr=1e-12)
    assert np.array_equal(result.domain_prompts, before.domain_prompts)
    assert np.abs(result.prompts - result.domain_prompts).max(axis=(1, 2)).min() > 1e-3


def test_the_domain_part_is_the_mean_of_its_last_rounds(dataset: FederatedDataset, backbone: Backbone) -> None:
    ends = [
        run(dataset, backbone, n, local_lr=0.0, averaged_rounds=1, clusterer=OneCluster()).prompts for n in (2, 3, 4)
    ]
    averaged = run(dataset, backbone, 4, local_lr=0.0, averaged_rounds=3, clusterer=OneCluster()).prompts
    assert np.allclose(averaged, np.mean(ends, axis=0), atol=1e-6)


def test_rounds_are_shared_out() -> None:
    assert [SecFPP().planned(rounds) for rounds in (1, 2, 3, 20)] == [1, 1, 2, 10]
    assert SecFPP(effort=1.0).planned(7) == 7 and SecFPP(effort=0.01).planned(7) == 1
    assert [SecFPP().domain_rounds(rounds) for rounds in (1, 2, 3, 8, 20)] == [1, 1, 1, 4, 10]
    assert SecFPP(local_lr=0.0).domain_rounds(20) == SecFPP(joint=True).domain_rounds(20) == 20
    assert SecFPP(local_share=0.0).domain_rounds(20) == 20 and SecFPP(local_share=0.99).domain_rounds(20) == 1


def test_untrained_private_parts_change_no_prediction(dataset: FederatedDataset, backbone: Backbone) -> None:
    algorithm = SecFPP()
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0).values()))
    personal, domain = algorithm.prompts(algorithm.client_state(context))
    assert np.array_equal(personal, domain) and np.array_equal(domain, context.start)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("trust", 1.5), ("local_share", 1.0), ("averaged_rounds", 0), ("familiar_share", -0.1), ("local_lr", -1.0)],
)
def test_settings_that_make_no_sense_are_named(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{setting} = "):
        SecFPP(**{setting: value})  # type: ignore[arg-type]
