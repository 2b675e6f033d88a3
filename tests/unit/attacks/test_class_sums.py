"""Attacks on class sums, made on what a run leaves with its clients: where they succeed, and where they fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest

from secfpp.algorithms.class_means import EverybodysClassMeans
from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.algorithms.visual import ClassMeans
from secfpp.attacks.class_sums import Parts, Shared, certain, relative_error
from secfpp.data.federated import FederatedDataset, Split
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.class_means import ClassSums
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Program
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import Dropouts, InProcessDriver
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import Mean
from secfpp.secure.polls.plain_poll import PlainPoll
from secfpp.secure.polls.secure_poll import SecurePoll

PARTITION = np.array([0, 0, 0, 0, 1, 1, 1, 1])
LABEL = 0
CLEAR: dict[str, Any] = {"aggregator": PlainMean(min_responders=2), "poll": PlainPoll()}
SECURE: dict[str, Any] = {"aggregator": SecureMean(), "poll": SecurePoll(min_count=2)}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def dataset() -> FederatedDataset:
    """Two domains of four clients, who all have a class."""
    data = load_icons(
        IconSettings(shots=6, validation_shots=2, test_shots=2, clients_per_domain=4, domains=("sketch", "pixel")), 0
    )
    return replace(data, clients=tuple(replace(c, train=relabelled(c.train)) for c in data.clients))


def relabelled(split: Split) -> Split:
    labels = split.labels.copy()
    labels[:3] = LABEL
    return Split(split.images, labels)


def held_by(dataset: FederatedDataset, holders: set[int]) -> FederatedDataset:
    """The same data, of which only these clients have images of the class."""

    def left(number: int, split: Split) -> Split:
        kept = (split.labels != LABEL) | (number in holders)
        return Split(split.images[kept], split.labels[kept])

    return replace(dataset, clients=tuple(replace(c, train=left(i, c.train)) for i, c in enumerate(dataset.clients)))


@dataclass(frozen=True)
class Run:
    """What the clients of a run hold, and what is true."""

    shared: Shared
    own: tuple[ClassSums, ...]

    @property
    def means(self) -> np.ndarray:
        return np.array([sums.sums / np.maximum(sums.counts, 1)[:, None] for sums in self.own])

    @property
    def holds(self) -> np.ndarray:
        return np.array([sums.counts > 0 for sums in self.own])

    def of(self, *attackers: int) -> Mapping[int, ClassSums]:
        return {attacker: self.own[attacker] for attacker in attackers}

    def parts(self, *attackers: int) -> Parts:
        return Parts.left_to(self.of(*attackers), self.shared)

    def error(self, parts: Parts, victim: int) -> float:
        """Of the guess at the victim's mean of the class, as a share of that of everybody's mean."""
        truth = self.means[victim, LABEL]
        usual = sum(sums.sums[LABEL] for sums in self.own) / sum(sums.counts[LABEL] for sums in self.own)
        return relative_error(parts.guesses()[victim, LABEL], truth, usual)


def run(
    dataset: FederatedDataset,
    backbone: Backbone,
    least: int,
    settings: Mapping[str, Any] = CLEAR,
    dropouts: Dropouts | None = None,
    liars: Collection[int] = (),
) -> Run:
    """Share everybody's sums and those of two groups, and read them from the states of clients who hold them."""
    algorithm = EverybodysClassMeans(class_means=ClassMeans(levels="all", min_holders=least), **settings)
    contexts = make_contexts(dataset, backbone, algorithm, 0)
    order = [client.name for client in dataset.clients]
    states = {name: algorithm.client_state(context) for name, context in contexts.items()}
    for name in (order[liar] for liar in liars):
        states[name] = states[name].replace(holds=np.ones_like(states[name]["holds"]))
    driver = InProcessDriver(algorithm, contexts, states, dropouts=dropouts)
    driver.round_ = 1
    groups = Assignment(dict(zip(order, PARTITION.tolist(), strict=True)))

    def share() -> Program[None]:
        cohort, made = yield from algorithm.share_everybody(Cohort(dict.fromkeys(sorted(order), 1), 1, 0, 1))
        if made.members:
            yield from algorithm.share_groups(cohort, groups)

    driver.run(share())

    def held(client: int, slot: str) -> ClassSums:
        sums = algorithm.shared_sums(contexts[order[client]], driver.states[order[client]], slot)
        assert sums is not None, f"no sum in {slot}"
        return sums.classes

    shared = Shared(held(0, EVERYBODY), [held(0, GROUP), held(4, GROUP)], PARTITION)
    return Run(shared, tuple(algorithm.own_sums(contexts[name])[0] for name in order))


@pytest.mark.parametrize("settings", [CLEAR, SECURE], ids=["clear", "shares"])
def test_one_of_two_holders_knows_the_others_mean(
    dataset: FederatedDataset, backbone: Backbone, settings: dict[str, Any]
) -> None:
    found = run(held_by(dataset, {0, 1}), backbone, 2, settings)
    parts = found.parts(0)
    assert parts.alone(found.holds)[1, LABEL]
    assert found.error(parts, 1) < 1e-3
    assert parts.counts[1, LABEL] == pytest.approx(found.own[1].counts[LABEL], abs=0.01)


def test_of_too_few_holders_nothing_is_left(dataset: FederatedDataset, backbone: Backbone) -> None:
    found = run(held_by(dataset, {0, 1}), backbone, 3)
    parts = found.parts(0)
    assert parts.place[1, LABEL] == -1
    assert np.isnan(parts.guesses()[1, LABEL]).all()
    assert not parts.alone(found.holds).any()


def test_one_of_three_holders_guesses_and_two_know(dataset: FederatedDataset, backbone: Backbone) -> None:
    found = run(held_by(dataset, {0, 1, 2}), backbone, 3)
    assert not found.parts(0).alone(found.holds)[:, LABEL].any()
    assert found.error(found.parts(0), 2) > 0.3
    assert found.parts(0, 1).alone(found.holds)[2, LABEL]
    assert found.error(found.parts(0, 1), 2) < 1e-3


def test_the_only_holder_elsewhere_is_exposed_to_three_in_a_group(
    dataset: FederatedDataset, backbone: Backbone
) -> None:
    """Everybody's sum less the group's is one client's: the rule looks at each sum by itself."""
    found = run(held_by(dataset, {0, 1, 2, 4}), backbone, 3)
    assert found.parts(3).alone(found.holds)[4, LABEL]
    assert found.error(found.parts(3), 4) < 1e-3
    two = run(held_by(dataset, {0, 1, 2, 4, 5}), backbone, 3)
    assert not two.parts(3).alone(two.holds)[:, LABEL].any()
    assert two.error(two.parts(3), 4) > 0.3


@pytest.mark.parametrize("guarded", [True, False])
def test_a_holder_who_goes_between_poll_and_mean_leaves_no_sum(
    guarded: bool, dataset: FederatedDataset, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll counts it; a sum without it would be that of two."""
    gone = dataset.clients[2].name

    def loose(
        self: EverybodysClassMeans, counted: Cohort, offered: object, slot: str, group: Collection[str] | None = None
    ) -> Program[Mean]:
        alike = replace(counted, weights=dict.fromkeys(counted.clients, 1))
        return (yield from self.aggregator.mean(alike, slot, group=group))

    if not guarded:
        monkeypatch.setattr(EverybodysClassMeans, "_mean_of_all", loose)

    def goes(round_: int, step: str, client: str) -> Literal["before"] | None:
        return "before" if client == gone and step.startswith("aggregator") else None

    data = held_by(dataset, {0, 1, 2})
    if guarded:
        with pytest.raises(AssertionError, match="no sum"):
            run(data, backbone, 3, dropouts=goes)
    else:
        found = run(data, backbone, 3, dropouts=goes)
        assert found.error(found.parts(0), 1) < 1e-3


def test_members_who_claim_a_class_count_as_holders(dataset: FederatedDataset, backbone: Backbone) -> None:
    found = run(held_by(dataset, {1}), backbone, 3, liars=(0, 2))
    assert found.parts(0).guesses()[1, LABEL] == pytest.approx(found.means[1, LABEL], abs=1e-3)


def test_who_goes_between_the_sums_takes_its_groups_sum_along(dataset: FederatedDataset, backbone: Backbone) -> None:
    """Else everybody's sum less those of all groups would be its own."""
    gone, asked = dataset.clients[3].name, Counter[str]()

    def second_time(round_: int, step: str, client: str) -> Literal["before"] | None:
        asked[step] += client == gone
        return "before" if client == gone and step == "aggregator.share" and asked[step] == 2 else None

    with pytest.raises(AssertionError, match="no sum"):
        run(dataset, backbone, 3, dropouts=second_time)
    assert asked["aggregator.share"] == 2


def test_who_is_in_one_of_two_sums_of_everybody_is_their_difference(
    dataset: FederatedDataset, backbone: Backbone
) -> None:
    """They are made again in a later round if a grouping failed."""
    algorithm = EverybodysClassMeans(**SECURE)
    contexts = make_contexts(dataset, backbone, algorithm, 0)
    driver = InProcessDriver(algorithm, contexts, {name: algorithm.client_state(c) for name, c in contexts.items()})
    attacker, *_, gone = sorted(contexts)
    sums = []
    for number, there in enumerate((set(contexts), set(contexts) - {gone}), 1):
        driver.round_ = number
        driver.run(algorithm.share_everybody(Cohort(dict.fromkeys(sorted(there), 1), number, 0, 2)))
        known = algorithm.shared_sums(contexts[attacker], driver.states[attacker], EVERYBODY)
        assert known is not None
        sums.append(known.classes)
    own, _ = algorithm.own_sums(contexts[gone])
    assert (sums[0] - sums[1]).sums[LABEL] == pytest.approx(own.sums[LABEL], abs=1e-2)


class Lying(PlainPoll):
    """A server that says of every class that enough clients have it."""

    def at_least(self, *asked: Any, **also: Any) -> Program[tuple[np.ndarray, Cohort]]:
        answer, left = yield from super().at_least(*asked, **also)
        return np.ones_like(answer), left


def test_a_server_that_lies_for_a_member_gets_past_the_rule(dataset: FederatedDataset, backbone: Backbone) -> None:
    """Nobody but the server sees a poll's answer."""
    found = run(held_by(dataset, {0, 1}), backbone, 3, {**CLEAR, "poll": Lying()})
    assert found.error(found.parts(0), 1) < 1e-3


def test_attackers_are_sure_of_what_bits_leave_no_choice_in(dataset: FederatedDataset, backbone: Backbone) -> None:
    for holders, least, attackers, expected in (
        ({1, 2, 3}, 3, (0,), {1: 1, 2: 1, 3: 1}),
        ({0, 1}, 3, (0, 1), {2: -1, 3: -1}),
        ({0, 1, 2}, 3, (0,), {1: 0, 2: 0, 3: 0}),
        ({0, 1}, 2, (0, 1), {2: -1, 3: -1}),
    ):
        found = run(held_by(dataset, holders), backbone, least)
        sure = certain(found.of(*attackers), found.shared, found.parts(*attackers), least)
        assert {client: sure[client, LABEL] for client in expected} == expected
        truth = np.where(found.holds, 1, -1)
        assert (sure == truth)[sure != 0].all()


def test_simulated_and_real_runs_leave_the_same(dataset: FederatedDataset, backbone: Backbone) -> None:
    found = run(held_by(dataset, {0, 1, 2, 4}), backbone, 3)
    simulated = Shared.by_rule(found.own, PARTITION, 3)
    assert np.array_equal(simulated.bits, found.shared.bits)
    for attackers in ((0,), (0, 1), (0, 4)):
        real, made = found.parts(*attackers), Parts.left_to(found.of(*attackers), simulated)
        assert np.array_equal(real.place, made.place)
        assert real.sums == pytest.approx(made.sums, abs=1e-2)
        assert real.images(np.ones(8)) == pytest.approx(made.images(np.ones(8)), abs=1e-2)


def test_images_are_spread_by_size_and_sum_to_what_is_left(dataset: FederatedDataset, backbone: Backbone) -> None:
    found = run(dataset, backbone, 3)
    sizes = np.array([sums.counts.sum() for sums in found.own])
    parts = found.parts(0)
    spread = parts.images(sizes)
    assert spread[0] == pytest.approx(0)
    assert spread[1:4, LABEL].sum() == pytest.approx(sum(found.own[c].counts[LABEL] for c in (1, 2, 3)), abs=0.01)
    assert spread[1, LABEL] / spread[2, LABEL] == pytest.approx(sizes[1] / sizes[2])
