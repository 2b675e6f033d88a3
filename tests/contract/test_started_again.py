"""A round whose end was lost is done again: by the same clients only, or two answers could be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secfpp.errors import TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Program
from secfpp.runtime.remote import LocalTransport, RemoteDriver
from secfpp.secure.ledger import RESTARTS, Ledger
from secfpp.secure.means.updates import Mean
from secfpp.secure.session import parties_in_memory
from support.secure_runs import between
from support.toy_sites import CLIENTS, Place, Walk, a_site, ask, committed, opened, places


def a_round(clients: tuple[str, ...]) -> Program[Mean]:
    """Everybody trains; the updates of `clients` are averaged."""
    yield ask("method.add", by=1)
    return (yield from averaged(clients))


def averaged(clients: tuple[str, ...]) -> Program[Mean]:
    return (yield from Walk().aggregator.mean(Cohort(dict.fromkeys(clients, 1), 1, 0), "p"))


def training() -> Program[None]:
    yield ask("method.add", by=1)


@pytest.fixture
def people() -> dict[str, Place]:
    return places()


def started(people: dict[str, Place], folder: Path) -> RemoteDriver:
    """A server that begins, or begins again, and sites that lost what they had in memory."""
    sites = {client: a_site(place, folder / client) for client, place in people.items()}
    return opened(LocalTransport({client: site.handle for client, site in sites.items()}))


def test_the_same_clients_get_the_same_mean(people: dict[str, Place], tmp_path: Path) -> None:
    assert started(people, tmp_path).run(a_round(CLIENTS)).members == CLIENTS
    again = started(people, tmp_path)
    assert again.run(a_round(CLIENTS)).members == CLIENTS
    again.commit({})
    once = started(places(), tmp_path / "once")
    once.run(a_round(CLIENTS))
    once.commit({})
    for client, state in committed(tmp_path, 1).items():
        assert np.array_equal(state["p"], committed(tmp_path / "once", 1)[client]["p"])


def test_fewer_clients_get_no_second_mean(people: dict[str, Place], tmp_path: Path) -> None:
    assert started(people, tmp_path).run(a_round(CLIENTS)).members == CLIENTS
    again = started(people, tmp_path)
    assert again.run(a_round(CLIENTS[:4])).members == ()
    assert {(one.by, one.reason, one.step) for one in again.refusals} >= {
        (client, "tampering", "aggregator.agree") for client in CLIENTS[:4]
    }


def test_fewer_clients_get_no_mean_where_it_was_agreed_whose_updates_are_in_it(
    people: dict[str, Place], tmp_path: Path
) -> None:
    """Some holders could else give their part of one sum, and the others theirs of another: not enough of each to
    decode it, but of an update in one of them alone more parts than may be known."""
    broken = between(a_round(CLIENTS), lambda asked: ask(asked.step, ()) if asked.step == "aggregator.sum" else asked)
    assert started(people, tmp_path).run(broken).members == ()
    again = started(people, tmp_path)
    assert again.run(a_round(CLIENTS[:4])).members == ()
    assert {(one.by, one.reason, one.step) for one in again.refusals} == {
        (client, "tampering", "aggregator.agree") for client in CLIENTS[:4]
    }
    assert started(people, tmp_path).run(a_round(CLIENTS)).members == CLIENTS


def test_no_second_mean_is_had_of_holders_that_are_drawn_anew(tmp_path: Path) -> None:
    """They know nothing of the first one; so who shared with others before does not share with them."""
    many = tuple(sorted([*CLIENTS, *(f"f{number:02d}" for number in range(20))]))
    parties = parties_in_memory(many)
    people = {client: Place(client, parties[client]) for client in many}
    assert started(people, tmp_path).run(averaged(many)).members == many
    for left in (many[:-1], many):
        again = started(people, tmp_path)
        assert again.run(averaged(left)).members == ()
        assert {(one.by, one.step) for one in again.refusals} == {(client, "aggregator.share") for client in left}


def test_fewer_clients_get_a_mean_where_none_was_given_before(people: dict[str, Place], tmp_path: Path) -> None:
    started(people, tmp_path).run(training())
    assert started(people, tmp_path).run(a_round(CLIENTS[:4])).members == CLIENTS[:4]


def test_a_round_is_not_started_again_for_ever(people: dict[str, Place], tmp_path: Path) -> None:
    started(people, tmp_path).run(a_round(CLIENTS))
    for _ in range(RESTARTS):
        started(people, tmp_path)
    sites = {client: a_site(place, tmp_path / client) for client, place in people.items()}
    driver = RemoteDriver(Walk(), LocalTransport({client: site.handle for client, site in sites.items()}), deadline=9)
    assert {reply.refused for reply in driver.open({}, 0).values()} == {"old"}


def test_a_round_is_not_done_twice_without_a_restart(people: dict[str, Place], tmp_path: Path) -> None:
    driver = started(people, tmp_path)
    assert driver.run(a_round(CLIENTS)).members == CLIENTS
    assert driver.run(a_round(CLIENTS)).members == ()


def test_earlier_rounds_are_over(people: dict[str, Place], tmp_path: Path) -> None:
    driver = started(people, tmp_path)
    driver.run(a_round(CLIENTS))
    driver.commit({})
    for place in people.values():
        assert place.party is not None
        place.party.ledger.begin(3, 0)
    sites = {client: a_site(place, tmp_path / client) for client, place in people.items()}
    late = RemoteDriver(Walk(), LocalTransport({client: site.handle for client, site in sites.items()}), deadline=9)
    assert {reply.refused for reply in late.open({}, 1).values()} == {"ahead"}


def test_a_ledger_on_disk_remembers_with_whom(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path / "rounds.json")
    ledger.begin(4, 0)
    ledger.once("share")
    ledger.bind("sum", "of five")
    kept = Ledger.at(tmp_path / "rounds.json")
    with pytest.raises(TamperError, match="second time"):
        kept.once("share")
    kept.again()
    kept.once("share")
    kept.bind("sum", "of five")
    with pytest.raises(TamperError, match="with others than before"):
        Ledger.at(tmp_path / "rounds.json").bind("sum", "of four")
    kept.begin(5, 0)
    kept.bind("sum", "of four")
