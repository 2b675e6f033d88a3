"""A whole run at sites of this process: what is lost, what is refused, and what goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from secfpp.algorithms.base import ServerState
from secfpp.data.federated import FederatedDataset
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.deploy import server_process
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.names import AGREED, RESULTS
from secfpp.deploy.results import SUMMARY, sentences
from secfpp.deploy.server_process import CHECKPOINT, Progress, run_at_sites, serve
from secfpp.deploy.site_folder import SiteFolder
from secfpp.errors import ConfigError, DataError, DropoutError
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol.program import ClientState
from secfpp.runtime.checkpoint import TrainingState, save_checkpoint
from support.sites import FAST, NAMES, Here, agreed_on, make_sites, pictures, roster_of, sites_here

FIVE = (*NAMES, "emil")


@dataclass(frozen=True)
class Prepared:
    root: Path
    agreed: Agreed
    whole: FederatedDataset
    backbone: Backbone


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("prepared")
    data, backbone = pictures(root / "data", FIVE), load_backbone("mini", device="cpu")
    sites = make_sites(root / "sites", data, FIVE)
    roster = roster_of(sites)
    agreed = agreed_on(roster, backbone, FAST, rounds=4)
    whole = load_folder(FolderSettings(root=str(data), size=agreed.image_size), agreed.seed)
    for site in sites.values():
        site.know(whole, backbone, agreed)
        site.agree(agreed, roster)
    return Prepared(root / "sites", agreed, whole, backbone)


@pytest.fixture
def agreed(prepared: Prepared) -> Agreed:
    return prepared.agreed


@pytest.fixture
def here(prepared: Prepared, tmp_path: Path) -> Iterator[Here]:
    shutil.copytree(prepared.root, tmp_path / "sites")
    sites = {name: SiteFolder(tmp_path / "sites" / name) for name in FIVE}
    with sites_here(sites, prepared.agreed, prepared.whole, prepared.backbone) as transport:
        yield transport


def states(here: Here, agreed: Agreed) -> dict[str, ClientState]:
    """All sites' states after the last round."""
    found = {}
    for name, site in here.open.items():
        kept = site.folder.store(agreed).load(agreed.rounds)
        assert kept is not None and kept[0] == agreed.rounds
        found[name] = kept[1]
    return found


def bits(states: Mapping[str, ClientState]) -> dict[str, dict[str, bytes]]:
    return {name: {slot: array.tobytes() for slot, array in state.arrays.items()} for name, state in states.items()}


def test_a_run_ends_with_one_shared_prompt_and_a_prompt_at_every_site(
    here: Here, agreed: Agreed, tmp_path: Path
) -> None:
    text = here.open["ben"].folder.file.text.replace("tell_metrics = false", "tell_metrics = true")
    (here.open["ben"].folder.path / "site.toml").write_text(text)
    here.start("ben")
    seen: list[Progress] = []
    served = run_at_sites(here, agreed, tmp_path / "server", on_round=seen.append)
    assert [(one.round, one.sites, one.lost) for one in seen] == [(n, FIVE, "") for n in (1, 2, 3, 4)]
    assert (served.rounds, served.lost, served.refused, served.failures) == (4, {}, {}, ())
    assert len({state["domain_prompt.base"].tobytes() for state in states(here, agreed).values()}) == 1
    assert all((site.folder.path / "prompt.safetensors").exists() for site in here.open.values())
    assert {name for name, told in served.told.items() if told} == {"ben"}
    assert served.told["ben"]["images"] == {"train": 12, "validation": 6, "test": 6}
    about = served.to_json()
    assert "told" in about["sites"]["ben"] and "told" not in about["sites"]["anna"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_site_that_was_away_comes_back_with_its_older_state(
    restarted: bool, here: Here, agreed: Agreed, tmp_path: Path
) -> None:
    took: dict[int, tuple[str, ...]] = {}
    here.cut = lambda name, request: name == "emil" and request.round == 2

    def note(done: Progress) -> None:
        took[done.round] = done.sites
        if done.round == 2:
            kept = here.open["emil"].folder.store(agreed).load(2)
            assert kept is not None and kept[0] == 1
            if restarted:
                here.start("emil")

    served = run_at_sites(here, agreed, tmp_path / "server", on_round=note)
    assert served.lost == {} and took == {1: FIVE, 2: FIVE, 3: NAMES, 4: FIVE} and served.behind == ()
    assert len({state["domain_prompt.base"].tobytes() for state in states(here, agreed).values()}) == 1


def test_a_site_that_is_away_at_the_end_is_named(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    here.cut = lambda name, request: name == "emil" and request.round == 4
    served = run_at_sites(here, agreed, tmp_path / "server")
    assert served.behind == ("emil",)
    assert "emil missed the last round: what it has is of an earlier one" in sentences(served.to_json())


def test_a_round_that_too_few_finish_is_lost_and_the_next_one_goes_on(
    here: Here, agreed: Agreed, tmp_path: Path
) -> None:
    here.cut = lambda name, request: name in ("anna", "emil") and request.round == 2 and request.kind == "ask"
    seen: list[Progress] = []
    served = run_at_sites(here, agreed, tmp_path / "server", on_round=seen.append)
    assert list(served.lost) == [2] and [one.round for one in seen if one.lost] == [2]
    assert "anna, emil" in served.lost[2]
    assert [one.sites for one in seen] == [FIVE] * 4
    assert len({state["domain_prompt.base"].tobytes() for state in states(here, agreed).values()}) == 1
    assert [one["round"] for one in served.to_json()["lost"]] == [2]


def test_too_few_sites_end_the_run_which_goes_on_once_they_are_back(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    here.cut = lambda name, request: name in ("anna", "emil") and request.round >= 2 and request.kind != "open"
    with pytest.raises(DropoutError, match=r"round 3.*anna, emil"):
        run_at_sites(here, agreed, tmp_path / "server")
    here.cut = lambda name, request: False
    served = run_at_sites(here, agreed, tmp_path / "server", resume=True)
    assert served.rounds == 4 and set(served.sites) == set(FIVE)


class KilledError(Exception):
    """The server ends here."""


@pytest.mark.parametrize("committed", [1, 2])
def test_a_server_that_ends_goes_on_with_the_same_bits(
    committed: int, prepared: Prepared, here: Here, agreed: Agreed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the sites have committed a round that the server has not."""
    run_at_sites(here, agreed, tmp_path / "server")
    expected, second = bits(states(here, agreed)), tmp_path / "second"
    here.close()
    shutil.copytree(prepared.root, second)
    sites = {name: SiteFolder(second / name) for name in FIVE}
    with sites_here(sites, agreed, prepared.whole, prepared.backbone) as again:
        save = server_process.save_checkpoint

        def killed(path: Path, state: TrainingState, run: str) -> None:
            if state.round <= committed:
                save(path, state, run)
            if state.round == 2:
                raise KilledError

        monkeypatch.setattr(server_process, "save_checkpoint", killed)
        with pytest.raises(KilledError):
            run_at_sites(again, agreed, second / "server")
        monkeypatch.setattr(server_process, "save_checkpoint", save)
        with pytest.raises(ConfigError, match="has begun: go on with it by --resume"):
            run_at_sites(again, agreed, second / "server")
        served = run_at_sites(again, agreed, second / "server", resume=True)
        assert served.rounds == 4 and served.lost == {}
        assert bits(states(again, agreed)) == expected


def test_a_server_that_ends_still_knows_who_missed_an_average(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    here.cut = lambda name, request: (name, request.round, request.kind) == ("emil", 2, "ask")

    def ends(done: Progress) -> None:
        if done.round == 2:
            raise KilledError

    with pytest.raises(KilledError):
        run_at_sites(here, agreed, tmp_path / "server", on_round=ends)
    served = run_at_sites(here, agreed, tmp_path / "server", resume=True)
    assert served.lost == {} and served.failures == ()
    assert len({state["domain_prompt.base"].tobytes() for state in states(here, agreed).values()}) == 1


def test_a_server_that_ends_still_knows_what_failed_where(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    def ends(done: Progress) -> None:
        if done.round == 1:
            here.start("ben")  # in the middle of the run: what it is asked next is of a run that is not open there
        if done.round == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_at_sites(here, agreed, tmp_path / "server", on_round=ends)
    served = run_at_sites(here, agreed, tmp_path / "server", resume=True)
    assert [(one["round"], one["site"], one["kind"]) for one in served.to_json()["failures"]] == [(2, "ben", "closed")]
    assert served.rounds == 4 and served.behind == ()


def test_a_checkpoint_of_another_run_is_refused(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT, TrainingState(ServerState(), {}, np.empty(0), np.empty(0)), "another")
    with pytest.raises(DataError, match="belongs to other settings"):
        run_at_sites(here, agreed, tmp_path, resume=True)
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read"):
        run_at_sites(here, agreed, tmp_path, resume=True)


def test_sites_that_do_not_take_part_are_named_with_what_they_told(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    with pytest.raises(DropoutError, match="round 1"):
        run_at_sites(here, replace(agreed, rounds=5), tmp_path / "server")
    strict = here.open["emil"].folder.path / "site.toml"
    strict.write_text(strict.read_text().replace("most_rounds = 100", "most_rounds = 3"))
    here.start("emil")
    seen: list[Progress] = []
    served = run_at_sites(here, agreed, tmp_path / "other", on_round=seen.append)
    assert served.refused == {"emil": "forbidden: ['rounds']"}
    assert {one.sites for one in seen} == {NAMES}


def test_what_a_run_came_to_is_in_files_of_the_server(here: Here, agreed: Agreed, tmp_path: Path) -> None:
    agreed.save(tmp_path / AGREED)
    assert serve(here, tmp_path) == 0
    about = json.loads((tmp_path / RESULTS / SUMMARY).read_bytes())
    assert (about["rounds"], about["lost"], about["digest"]) == (4, [], agreed.digest)
    assert Agreed.load(tmp_path / RESULTS / AGREED) == agreed


def test_the_exit_status_says_that_a_round_or_too_many_sites_were_lost(
    here: Here, agreed: Agreed, tmp_path: Path
) -> None:
    agreed.save(tmp_path / AGREED)
    here.cut = lambda name, request: name in ("anna", "emil") and request.round >= 2 and request.kind != "open"
    assert serve(here, tmp_path) == 1
    assert not (tmp_path / RESULTS).exists()
    here.cut = lambda name, request: False
    assert serve(here, tmp_path) == 1
    lost = json.loads((tmp_path / RESULTS / SUMMARY).read_bytes())["lost"]
    assert [one["round"] for one in lost] == [2]  # also after the server was started again
