"""Groups by what clients disagree about: used where they are of use, and whoever misses a step catches up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.base import ServerState
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.algorithms.visual import ClassMeans
from secfpp.data.federated import FederatedDataset, hold_out
from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import ConfigError
from secfpp.models.backbone import Backbone
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import Dropouts, InProcessDriver
from secfpp.runtime.trainer import RunResult, participants, train
from secfpp.secure.clustering.clusterer import OneCluster, OracleClusters
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.polls.plain_poll import PlainPoll
from support.method_runs import make, shifted
from support.stopping import stopped

ALWAYS, NEVER = -99.0, 99.0
OPTIONS = ("dropouts", "participation", "checkpoint", "on_round")
CLEAR: dict[str, Any] = {
    "clusterer": PlainAgreement(k_max=3, min_cluster_size=3),
    "aggregator": PlainMean(min_responders=2),
    "poll": PlainPoll(),
    "local_lr": 0.0,
    "averaged_rounds": 1,
}


@pytest.fixture(scope="module")
def alike() -> FederatedDataset:
    """Two domains of four clients that mean the same by every label."""
    names = ("sketch", "pixel")
    return load_icons(
        IconSettings(rho=1.0, shots=6, validation_shots=4, test_shots=2, clients_per_domain=4, domains=names), 0
    )


@pytest.fixture(scope="module")
def apart(alike: FederatedDataset) -> FederatedDataset:
    """The same clients, of whom half mean other things by the labels."""
    return shifted(alike)


def run(data: FederatedDataset, backbone: Backbone, rounds: int = 2, **settings: Any) -> RunResult:
    options = {name: settings.pop(name) for name in OPTIONS if name in settings}
    algorithm = make("secfpp", **{**CLEAR, **settings})
    return train(data, backbone, algorithm, method="secfpp", seed=0, rounds=rounds, **options)


class Simulation:
    """Rounds of a method whose states can be looked at."""

    def __init__(
        self, data: FederatedDataset, backbone: Backbone, dropouts: Dropouts | None = None, **settings: Any
    ) -> None:
        self.algorithm: SecFPP = make("secfpp", **{**CLEAR, **settings})
        self.contexts = make_contexts(data, backbone, self.algorithm, 0)
        states = {name: self.algorithm.client_state(context) for name, context in self.contexts.items()}
        self.driver = InProcessDriver(self.algorithm, self.contexts, states, dropouts=dropouts)
        self.server = ServerState()

    def round(self, number: int, clients: Any = None) -> None:
        cohort = Cohort(dict.fromkeys(clients or self.contexts, 1), number, 0, 9, sampled=clients is not None)
        self.driver.round_ = number
        self.server = self.driver.run(self.algorithm.round(self.server, cohort))

    def knows(self, client: str, slot: str) -> bool:
        return self.algorithm.shared_sums(self.contexts[client], self.driver.states[client], slot) is not None

    def same(self, slot: str) -> bool:
        """Whether all members of each group have the same in `slot`."""
        assert self.server.assignment is not None
        groups = [self.server.assignment.members(s) for s in range(self.server.assignment.k)]
        return all(
            np.array_equal(self.driver.states[client][slot], self.driver.states[members[0]][slot])
            for members in groups
            for client in members
        )


def groups_of(result: RunResult) -> set[tuple[int, str]]:
    assert result.assignment is not None
    return set(zip(result.assignment, result.domains, strict=True))


def test_groups_that_mean_other_things_by_a_label_are_used_and_help(
    apart: FederatedDataset, backbone: Backbone
) -> None:
    grouped, one = run(apart, backbone), run(apart, backbone, clusterer=OneCluster())
    assert groups_of(grouped) == {(0, "pixel"), (1, "sketch")}
    assert grouped.metrics["own_domain"].mean() > one.metrics["own_domain"].mean() + 5
    assert grouped.why["used"] == grouped.why["found"] == 2 and grouped.why["test"]["low"] > 1.0


@pytest.mark.parametrize("clusterer", [PlainAgreement(k_max=3, min_cluster_size=3), OracleClusters()])
def test_groups_that_mean_the_same_are_not_used(clusterer: Any, alike: FederatedDataset, backbone: Backbone) -> None:
    simulation = Simulation(alike, backbone, clusterer=clusterer)
    simulation.round(1)
    server = simulation.server
    assert server.assignment is not None and server.found is not None
    assert server.assignment.k == 1 and len(server.members) == 1
    if clusterer.kind == "oracle":
        assert server.found.k == 2
    assert not any(simulation.knows(client, GROUP) for client in simulation.contexts)
    assert all(simulation.knows(client, EVERYBODY) for client in simulation.contexts)


@pytest.mark.parametrize(("min_gain", "k"), [(ALWAYS, 2), (NEVER, 1)])
def test_the_test_decides_between_the_groups_and_one(
    min_gain: float, k: int, dataset: FederatedDataset, backbone: Backbone
) -> None:
    result = run(dataset, backbone, clusterer=OracleClusters(), min_gain=min_gain)
    assert result.assignment is not None and len(set(result.assignment)) == k
    for i, a in enumerate(result.assignment):
        for j, b in enumerate(result.assignment):
            assert np.array_equal(result.prompts[i], result.prompts[j]) == (a == b)


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize("min_gain", [ALWAYS, NEVER])
def test_who_misses_any_step_of_the_grouping_catches_up_in_the_next_round(
    fate: Any, min_gain: float, apart: FederatedDataset, backbone: Backbone
) -> None:
    settings = {"min_gain": min_gain, "clusterer": OracleClusters()}
    asked: list[tuple[str, int]] = []

    def counting(round_: int, step: str, client: str) -> Any:
        if client == "pixel-1":
            asked.append((step, sum(step == name for name, _ in asked)))

    Simulation(apart, backbone, counting, **settings).round(1)
    assert {("poll.tell_bits", 1), ("method.offer", 1), ("aggregator.receive", 2), ("method.adopt", 1),
            ("clusterer.domain", 0), ("poll.tell_gain", 0)} <= set(asked)  # fmt: skip
    assert (("method.part", 0) in asked) == (min_gain == NEVER)
    for at in asked:
        before: list[str] = []

        def lose(round_: int, step: str, client: str, at: Any = at, before: list[str] = before) -> Any:
            if client != "pixel-1" or round_ != 1:
                return None
            before.append(step)
            return fate if (step, before.count(step) - 1) == at else None

        simulation = Simulation(apart, backbone, lose, **settings)
        for number in (1, 2):
            simulation.round(number)
        server = simulation.server
        assert server.assignment is not None, at
        assert set(server.assignment.cluster_of) == set(simulation.contexts) and not server.behind, at
        assert server.assignment.k == (2 if min_gain == ALWAYS else 1), at
        if at not in (
            ("method.offer", 1),
            ("aggregator.share", 1),
        ):  # a group's sum is of all who were counted, or none
            assert all(server.members) and len(server.members) == (3 if min_gain == ALWAYS else 1), at
        for client in simulation.contexts:
            has = min_gain == ALWAYS and server.members[1 + server.assignment.cluster_of[client]] > 0
            assert simulation.knows(client, EVERYBODY) and simulation.knows(client, GROUP) == has, (at, client)
        for slot in ("domain_prompt.base", f"{GROUP}.base") if min_gain == ALWAYS else ("domain_prompt.base",):
            assert simulation.same(slot), (at, slot)
        everybody = [state[f"{EVERYBODY}.base"] for state in simulation.driver.states.values()]
        assert all(np.array_equal(base, everybody[0]) for base in everybody), at


def test_a_grouping_that_fails_for_want_of_clients_is_done_again(apart: FederatedDataset, backbone: Backbone) -> None:
    def lose(round_: int, step: str, client: str) -> Any:
        return "before" if (round_, step) == (1, "poll.tell_bits") and client != "pixel-0" else None

    simulation = Simulation(apart, backbone, lose)
    simulation.round(1)
    assert replace(simulation.server, bases={}) == ServerState()
    bases = [state["domain_prompt.base"] for state in simulation.driver.states.values()]
    assert all(np.array_equal(base, bases[0]) for base in bases)
    simulation.round(2)
    assert simulation.server.assignment is not None and simulation.server.assignment.k == 2


def test_groups_are_not_used_if_too_few_can_tell(apart: FederatedDataset, backbone: Backbone) -> None:
    def lose(round_: int, step: str, client: str) -> Any:
        return "before" if step == "poll.tell_gain" and client != "pixel-0" else None

    simulation = Simulation(apart, backbone, lose)
    simulation.round(1)
    assert simulation.server.assignment is not None and simulation.server.assignment.k == 1
    assert not any(simulation.knows(client, GROUP) for client in simulation.contexts)


def test_newcomers_after_training_get_what_their_group_has(backbone: Backbone) -> None:
    names = ("sketch", "pixel")
    settings = IconSettings(rho=1.0, shots=8, validation_shots=4, test_shots=2, clients_per_domain=5, domains=names)
    data = hold_out(shifted(load_icons(settings, 0)), 0.2, 0)
    assert sorted(client.domain for client in data.newcomers) == ["pixel", "sketch"]
    result = run(data, backbone)
    group = dict(zip(result.domains, result.assignment or (), strict=True))
    assert len(set(group.values())) == 2
    assert result.newcomer_assignment == tuple(
        group[client.domain] for client in sorted(data.newcomers, key=lambda client: client.name)
    )
    one = run(data, backbone, clusterer=OneCluster())
    assert (result.newcomer_metrics["own_domain"] > one.newcomer_metrics["own_domain"]).all()


def test_who_was_away_in_the_first_round_is_placed_and_served(apart: FederatedDataset, backbone: Backbone) -> None:
    simulation = Simulation(apart, backbone, proof=False)  # six clients are too few for one
    first = set(simulation.contexts) - {"pixel-3", "sketch-0"}
    simulation.round(1, first)
    assert simulation.server.assignment is not None
    assert set(simulation.server.assignment.cluster_of) == first and simulation.server.assignment.k == 2
    simulation.round(2, set(simulation.contexts))
    of = simulation.server.assignment.cluster_of
    assert of["pixel-3"] == of["pixel-0"] != of["sketch-0"] == of["sketch-1"]
    assert all(simulation.knows(client, slot) for client in simulation.contexts for slot in (EVERYBODY, GROUP))
    assert simulation.same("domain_prompt.base") and simulation.same(f"{GROUP}.base")


def test_a_run_goes_on_with_its_groups_sums_and_who_is_behind(
    apart: FederatedDataset, backbone: Backbone, tmp_path: Path
) -> None:
    def lose(round_: int, step: str, client: str) -> Any:
        return "before" if (round_, step, client) == (1, "poll.tell_gain", "pixel-1") else None

    whole = run(apart, backbone, 4, dropouts=lose)
    stopped(1, lambda on_round: run(apart, backbone, 4, dropouts=lose, checkpoint=tmp_path / "c", on_round=on_round))
    resumed = run(apart, backbone, 4, dropouts=lose, checkpoint=tmp_path / "c")
    assert resumed.assignment == whole.assignment and len(set(whole.assignment or ())) == 2
    assert np.array_equal(resumed.prompts, whole.prompts) and resumed.why == whole.why
    assert resumed.visual_weights is not None and whole.visual_weights is not None
    assert np.array_equal(resumed.visual_weights, whole.visual_weights)


def test_a_checkpoint_keeps_all_that_the_server_knows(tmp_path: Path) -> None:
    groups = Assignment({"a": 0, "b": 1})
    server = ServerState(groups, (5, 2, 3), Assignment({"a": 0, "b": 1, "c": 1}), frozenset({"b"}))
    state = TrainingState(server, {"a": ClientState({"x": np.ones(2)})}, np.zeros((1, 2)), np.zeros(1))
    save_checkpoint(tmp_path / "c", state, "run")
    loaded = load_checkpoint(tmp_path / "c", "run")
    assert loaded is not None and loaded.server == server


@pytest.mark.parametrize("settings", [{"cluster_every": 1}, {"cluster_every": 0}])
def test_newcomers_are_placed_by_what_training_changes(
    settings: dict[str, Any], dataset: FederatedDataset, backbone: Backbone
) -> None:
    data = hold_out(dataset, 0.25, 0)
    clusterer = PlainKMeans(k=2, min_cluster_size=1, scale=48.0)
    algorithm = make("secfpp_paper", clusterer=clusterer, aggregator=PlainMean(), **settings)
    result = train(data, backbone, algorithm, method="secfpp_paper", seed=0, rounds=2)
    assert set(result.newcomer_assignment or (-1,)) <= {0, 1} == set(result.assignment or ())
    assert result.newcomer_metrics["own"].shape == (2,)


def test_newcomers_wait_while_too_few_members_are_there(apart: FederatedDataset, backbone: Backbone) -> None:
    simulation = Simulation(apart, backbone)
    first = set(simulation.contexts) - {"pixel-3"}
    simulation.round(1, first)
    simulation.round(2, {"pixel-0", "pixel-3", "sketch-0", "sketch-1"})
    assert simulation.server.assignment is not None
    assert "pixel-3" not in simulation.server.assignment.cluster_of
    simulation.round(3, set(simulation.contexts))
    assert simulation.server.assignment.cluster_of["pixel-3"] == simulation.server.assignment.cluster_of["pixel-0"]


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_rounds_of_a_share_of_the_clients_take_in_those_who_were_away(
    share: float, apart: FederatedDataset, backbone: Backbone
) -> None:
    result = run(apart, backbone, 8, participation=share)
    drawn = {client for number in range(1, 9) for client in participants(result.clients, share, 0, number)}
    assert drawn == set(result.clients)
    assert result.assignment is not None and -1 not in result.assignment
    if result.why.get("test"):  # who came later had no say in it
        told = [row["client"] for row in result.why["clients"] if row["gain"] is not None]
        assert result.why["test"]["n"] == len(told) <= round(share * len(result.clients))


def test_groups_are_explained_though_the_first_client_was_never_there(
    apart: FederatedDataset, backbone: Backbone
) -> None:
    names = tuple(sorted(client.name for client in apart.clients))
    seed = next(seed for seed in range(50) if names[0] not in participants(names, 0.75, seed, 1))
    made = make("secfpp", effort=0.5)
    result = train(apart, backbone, made, method="secfpp", seed=seed, rounds=2, participation=0.75)
    assert result.clients[0] == names[0] and result.why["verdict"]
    assert [row["client"] for row in result.why["clients"] if row["group"] < 0] == [
        name for name in names if name not in participants(names, 0.75, seed, 1)
    ]


@pytest.mark.parametrize("clients", [4, 5, 6])
def test_few_clients_are_one_group(clients: int, apart: FederatedDataset, backbone: Backbone) -> None:
    few = replace(apart, clients=apart.clients[:: 2 if clients == 4 else 1][:clients])
    result = train(few, backbone, make("secfpp"), method="secfpp", seed=0, rounds=2)
    assert set(result.assignment or ()) == {0} and np.isfinite(result.prompts).all()


def test_three_clients_are_refused_with_what_would_help(apart: FederatedDataset, backbone: Backbone) -> None:
    few = replace(apart, clients=apart.clients[:3])
    with pytest.raises(ConfigError, match=r"clusterer\.min_cluster_size = 4"):
        train(few, backbone, make("secfpp"), method="secfpp", seed=0, rounds=2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("error", 0.5), ("error", 0.0), ("error", 1e-7), ("min_gain", 100.0), ("min_gain", -100.0), ("directions", 0),
     ("effort", 0.0), ("effort", 1.1), ("cluster_every", 1), ("descriptor", "colour"),
     ("aggregator", SecureMean(min_responders=5)), ("class_means", ClassMeans(levels="group", min_holders=2)),
     ("class_means", ClassMeans(levels="own"))],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(setting: str, value: Any) -> None:
    named = {"aggregator": "aggregator.min_responders", "class_means": "class_means.min_holders|descriptor"}
    with pytest.raises(ConfigError, match=rf"({named.get(setting, setting)}) = "):
        SecFPP(**{setting: value})


@pytest.mark.parametrize("descriptor", ["features", "prompt"])
def test_other_descriptors_go_with_k_means(descriptor: str) -> None:
    with pytest.raises(ConfigError, match='secure_kmeans or plain_kmeans; or set descriptor = "class_residuals"'):
        SecFPP(descriptor=descriptor, class_means=ClassMeans())  # type: ignore[arg-type]
