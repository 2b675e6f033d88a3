"""Groups and polls whose openings are verified, at sites: the bits of one process, also where somebody goes missing."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from secfpp.data.federated import FederatedDataset
from secfpp.deploy.rehearsal import Rehearsal, differing, prepare, simulate
from secfpp.deploy.server_process import run_at_sites
from secfpp.deploy.site_folder import SiteFolder
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol import wire
from secfpp.protocol.program import ClientState
from secfpp.runtime.costs import Costs
from secfpp.runtime.envelope import Part, Request
from support.sites import Here, sites_here
from support.toy import Fate
from support.verified_runs import VERIFIED

SITES = 10


@dataclass(frozen=True)
class Stage:
    """Sites that agreed to a run, and what comes of it in one process."""

    rehearsal: Rehearsal
    whole: FederatedDataset
    backbone: Backbone
    states: Mapping[str, ClientState]
    costs: Costs

    def copied(self, folder: Path) -> Rehearsal:
        """The same sites elsewhere, before they did anything."""
        shutil.copytree(self.rehearsal.root / "sites", folder / "sites")
        return replace(
            self.rehearsal, root=folder, sites={name: SiteFolder(folder / "sites" / name) for name in self.names}
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.rehearsal.sites))

    @property
    def groups(self) -> set[frozenset[str]]:
        """Those that the simulated data have."""
        names = {name.rpartition("-")[0] for name in self.names}
        return {frozenset(one for one in self.names if one.startswith(f"{domain}-")) for domain in names}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    config = parse_config(VERIFIED)
    rehearsal = prepare(tmp_path_factory.mktemp("stage") / "sites", config, SITES)
    whole, backbone = load_dataset(config, config.seeds[0]), load_backbone("mini", device="cpu")
    states, costs, _ = simulate(rehearsal)
    return Stage(rehearsal, whole, backbone, states, costs)


@pytest.fixture
def copied(stage: Stage, tmp_path: Path) -> Rehearsal:
    return stage.copied(tmp_path)


@pytest.fixture
def here(stage: Stage, copied: Rehearsal) -> Iterator[Here]:
    with sites_here(copied.sites, copied.agreed, stage.whole, stage.backbone) as transport:
        yield transport


def steps(request: Request) -> set[str]:
    return {part.step for part in request.parts}


def groups(cluster_of: Mapping[str, int] | None) -> set[frozenset[str]]:
    assert cluster_of is not None
    return {frozenset(c for c, k in cluster_of.items() if k == each) for each in cluster_of.values()}


def counted(costs: Costs) -> dict[str, object]:
    return {**costs.as_dict(), "seconds": 0}


def test_sites_have_the_bits_and_costs_of_one_process(stage: Stage, copied: Rehearsal, here: Here) -> None:
    seen: Counter[str] = Counter()
    here.cut = lambda name, request: seen.update(steps(request)) or False  # type: ignore[func-returns-value]
    served = run_at_sites(here, copied.agreed, copied.root / "server")
    assert groups(served.cluster_of) == stage.groups
    assert (served.lost, served.refusals, served.failures) == ({}, (), ())
    assert seen["clusterer.verify"] and seen["poll.verify"]
    assert differing(copied, stage.states) == ()
    assert counted(served.costs) == counted(stage.costs)


def gone(who: str, step: str, times: int) -> Callable[[int, str, set[str]], bool]:
    """Whether a message is one that `who` never sees: the so-manieth of a step in round 1, and all after it there."""
    met = 0

    def lost(round_: int, name: str, asked: set[str]) -> bool:
        nonlocal met
        met += name == who and round_ == 1 and step in asked
        return name == who and round_ == 1 and met >= times

    return lost


@pytest.mark.parametrize(
    ("step", "times"),
    [
        ("poll.verify", 2),
        ("clusterer.begin", 1),
        ("clusterer.verify", 4),
        ("clusterer.proceed", 12),
    ],
)
def test_a_holder_that_goes_missing_leaves_the_others_with_the_bits_of_one_process(
    step: str, times: int, stage: Stage, copied: Rehearsal, here: Here
) -> None:
    who = stage.names[0]
    here.cut = lambda name, request: request.kind != "open" and lost(request.round, name, steps(request))
    lost, away = gone(who, step, times), gone(who, step, times)
    served = run_at_sites(here, copied.agreed, copied.root / "server")

    def fate(round_: int, name: str, client: str) -> Fate:
        return "before" if away(round_, client, {name}) else None

    states, costs, _ = simulate(stage.rehearsal, dropouts=fate)
    if step.startswith("clusterer"):
        assert groups(served.cluster_of) == stage.groups
    else:
        assert served.cluster_of is None, "sums of all who were counted cannot be made; it is tried again a round later"
    assert served.lost == {} and served.refusals == () and served.behind == (who,)
    assert {each.partition(":")[0] for each in differing(copied, states)} <= {who}
    assert counted(served.costs) == counted(costs) != counted(stage.costs)


class KilledError(Exception):
    """The server ends here."""


def test_a_server_that_is_killed_while_holders_verify_goes_on_with_the_same_bits(
    stage: Stage, copied: Rehearsal, here: Here
) -> None:
    asked: Counter[str] = Counter()

    def ends(name: str, request: Request) -> bool:
        for step in steps(request) if name == stage.names[0] else ():
            asked[step] += 1
            if (step, asked[step]) in points:
                raise KilledError
        return False

    here.cut = ends
    for point in (("poll.verify", 1), ("clusterer.verify", 1), ("clusterer.verify", 5), ("clusterer.proceed", 12)):
        asked.clear()
        points = {point}
        with pytest.raises(KilledError):
            run_at_sites(here, copied.agreed, copied.root / "server", resume=True)
    points = set()
    served = run_at_sites(here, copied.agreed, copied.root / "server", resume=True)
    assert (served.lost, served.refusals, served.failures) == ({}, (), ())
    assert groups(served.cluster_of) == stage.groups
    assert differing(copied, stage.states) == ()


def test_a_server_that_tells_false_values_gets_no_groups_and_the_run_goes_on(stage: Stage, tmp_path: Path) -> None:
    """One number, told to all holders alike, in the first round; in the second one it is honest."""
    lied: set[str] = set()

    def false(request: Request, part: Part) -> Part:
        message = wire.decode(part.data)
        if request.round > 1 or not part.step.startswith("clusterer") or "opened.1" not in message:
            return part
        lied.add(part.step)
        told = message["opened.1"].copy()
        told[0] ^= np.uint64(1)
        return replace(part, data=bytes(wire.encode({**message, "opened.1": told})))

    made = prepare(tmp_path / "sites", parse_config({**VERIFIED, "rounds": 4}), SITES)
    with sites_here(made.sites, made.agreed, stage.whole, stage.backbone) as here:
        carry = here.exchange

        def lying(messages: Mapping[str, bytes], deadline: float) -> Mapping[str, bytes]:
            asked = {name: Request.decode(data) for name, data in messages.items()}
            sent = {n: replace(r, parts=tuple(false(r, part) for part in r.parts)).encode() for n, r in asked.items()}
            return carry(sent, deadline)

        here.exchange = lying  # type: ignore[method-assign]
        served = run_at_sites(here, made.agreed, made.root / "server")
    assert lied
    assert {(one.by in stage.names, one.party, one.reason, one.round) for one in served.refusals} == {
        (True, "", "tampering", 1)
    }
    assert served.lost == {}, "prompts are averaged all the same"
    assert groups(served.cluster_of) == stage.groups, "they are found in the second round"
