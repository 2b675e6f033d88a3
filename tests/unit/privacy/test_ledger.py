from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from secfpp.errors import BudgetExceeded, ConfigError, DataError, DiskFullError, UnsupportedMechanism
from secfpp.privacy import ledger_file
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Composed, Event, Gaussian, SampledGaussian, Uncovered
from secfpp.privacy.ledger import PrivacyLedger, Terms, default_path

SUM = Gaussian(covers="class sums", unit="client", norm=1.0, sd=4.0)
COST = {times: epsilon([SUM] * times, 1e-5) for times in (1, 2, 3, 4)}
TERMS = Terms()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "ledger.jsonl"


def opened(path: Path, terms: Terms = TERMS, **more: Any) -> PrivacyLedger:
    return PrivacyLedger.open(path, "abc", terms, **more)


def charge(ledger: PrivacyLedger, *clients: str, event: Event = SUM, round_: int = 1, run: str = "first") -> float:
    return ledger.charge(event, clients, run=run, round_=round_)


def test_runs_on_the_same_data_add_up_for_each_client(path: Path) -> None:
    assert charge(opened(path), "anna", "ben") == COST[1]
    second = opened(path)
    assert charge(second, "ben", "cleo", run="second", round_=7) == COST[2]
    assert second.spent() == {"anna": COST[1], "ben": COST[2], "cleo": COST[1]}
    assert second.spent(upto=1) == {"anna": COST[1], "ben": COST[1]}
    assert [(one.run, one.round, one.clients) for one in opened(path).charges] == [
        ("first", 1, ("anna", "ben")),
        ("second", 7, ("ben", "cleo")),
    ]


def test_two_that_are_open_at_once_see_each_other(path: Path) -> None:
    one, two = opened(path, Terms(budget=COST[2])), opened(path, Terms(budget=COST[2]))
    charge(one, "anna")
    charge(two, "anna")
    with pytest.raises(BudgetExceeded):
        charge(one, "anna")
    assert len(opened(path).charges) == 2


def test_a_budget_stops_before_it_is_overspent(path: Path) -> None:
    ledger = opened(path, Terms(budget=(COST[2] + COST[3]) / 2))
    charge(ledger, "anna", "ben")
    charge(ledger, "ben")
    before = path.read_bytes()
    with pytest.raises(
        BudgetExceeded, match=r"privacy budget of 'ben'.*Nothing was released.*privacy calibrate"
    ) as caught:
        charge(ledger, "anna", "ben")
    assert (caught.value.spent, caught.value.asked) == (COST[2], COST[3])
    assert path.read_bytes() == before
    assert charge(ledger, "anna") == COST[2]


def test_every_attempt_is_charged(path: Path) -> None:
    ledger = opened(path)
    for times in (1, 2, 3):
        assert charge(ledger, "anna", round_=4) == COST[times]
    assert ledger.summary()["releases"] == 3


def test_what_is_not_covered_costs_everything(path: Path) -> None:
    ledger = opened(path)
    charge(ledger, "anna")
    assert charge(ledger, "ben", event=Uncovered(covers="groups", unit="client")) == math.inf
    assert ledger.spent() == {"anna": COST[1], "ben": math.inf}
    told = ledger.summary()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["epsilon"] is None and told["covers"] == ["class sums"] and told["not_covered"] == ["groups"]
    with pytest.raises(BudgetExceeded) as caught:
        charge(opened(path, Terms(budget=1e9)), "ben")
    assert caught.value.spent == math.inf


def test_other_units_are_counted_for_what_they_say(path: Path) -> None:
    """All of a client hides its records; bounded records hide no client."""
    charge(opened(path), "anna")
    records = replace(SUM, unit="record")
    of_records = opened(path, Terms(unit="record"))
    charge(of_records, "anna", event=records)
    both = math.sqrt(2**2 + 1)
    assert of_records.spent()["anna"] == pytest.approx(epsilon([replace(records, norm=both)], 1e-5), rel=1e-9)
    assert opened(path).spent() == {"anna": math.inf}
    with pytest.raises(UnsupportedMechanism, match="clip what a client gives"):
        charge(opened(path), "anna", event=records)


def test_what_no_accountant_covers_is_not_written(path: Path) -> None:
    ledger = opened(path, Terms(adjacency="replace_one"))
    sample = SampledGaussian(covers="gradient", unit="client", norm=1.0, sd=2.0, rate=0.1)
    with pytest.raises(UnsupportedMechanism):
        charge(ledger, "anna", event=sample)
    with pytest.raises(ConfigError, match="clients"):
        charge(ledger)
    assert opened(path).charges == []


def test_a_joint_release_is_one_entry_of_all_its_parts(path: Path) -> None:
    ledger = opened(path)
    whole = Composed(covers="round", unit="client", events=(SUM, replace(SUM, covers="counts")), times=2)
    assert charge(ledger, "anna", event=whole) == pytest.approx(COST[4], rel=1e-12)
    assert ledger.summary()["covers"] == ["class sums", "counts"]


def test_an_entry_is_on_disk_before_it_may_leave(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, synced = opened(path), []
    real = os.fsync

    def noted(handle: int) -> None:
        real(handle)
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", noted)
    charge(ledger, "anna")
    assert synced == [path.stat().st_size]


def test_only_the_owner_reads_it(path: Path) -> None:
    charge(opened(path), "anna")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_half_written_line_is_refused_until_it_is_settled(path: Path, left: int) -> None:
    charge(opened(path), "anna")
    whole = len(path.read_bytes())
    charge(opened(path), "anna")
    written = path.read_bytes()
    path.write_bytes(written[: whole + left] if left > 0 else written[:left])
    ledger = opened(path)
    assert ledger.half_written and ledger.spent() == {"anna": COST[1]}
    with pytest.raises(DataError, match=r"line 3: half-written.*--settle"):
        charge(ledger, "anna")
    assert ledger.settle() == (left if left > 0 else len(written) - whole - 1)
    assert charge(opened(path), "anna") == COST[2]
    again = opened(path)
    assert again.torn == 1 and not again.half_written and again.settle() == 0


@pytest.mark.parametrize("harm", ["changed", "dropped", "swapped", "no json"])
def test_a_damaged_ledger_is_refused_by_line(path: Path, harm: str) -> None:
    ledger = opened(path)
    for round_ in (1, 2, 3):
        charge(ledger, "anna", round_=round_)
    lines = path.read_bytes().splitlines(keepends=True)
    if harm == "changed":
        lines[2] = lines[2].replace(b'"sd": 4.0', b'"sd": 9.0')
    elif harm == "dropped":
        del lines[2]
    elif harm == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[2] = b"{}\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(DataError, match=rf"line {2 if harm == 'swapped' else 3}: .*--new-ledger"):
        opened(path)
    assert charge(opened(path, new=True), "anna") == COST[1]


def test_a_new_ledger_is_recorded_and_the_old_one_kept(path: Path) -> None:
    old = opened(path)
    charge(old, "anna")
    second = opened(path, new=True)
    assert second.spent() == {} and second.replaces == "ledger.1.jsonl"
    assert PrivacyLedger.read(path.with_name("ledger.1.jsonl"), TERMS).spent() == {"anna": COST[1]}
    with pytest.raises(DataError, match="another ledger was put in its place"):
        charge(old, "anna")
    assert opened(path, new=True).replaces == "ledger.2.jsonl"


def test_the_ledger_of_other_data_is_refused(path: Path) -> None:
    opened(path)
    with pytest.raises(DataError, match="of the data abc, not of xyz"):
        PrivacyLedger.open(path, "xyz", TERMS)
    path.write_text('{"kind": "ledger"}\n')
    with pytest.raises(DataError):
        opened(path)


def test_a_full_disk_leaves_the_ledger_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(path)
    before, real = path.read_bytes(), os.write

    def short(handle: int, data: bytes) -> int:
        if len(data) < 60:
            raise OSError(28, "No space left on device")
        return real(handle, data[:50])

    monkeypatch.setattr(ledger_file.os, "write", short)
    with pytest.raises(DiskFullError):
        charge(ledger, "anna")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert charge(ledger, "anna") == COST[1]


CHARGING = """
import sys
from pathlib import Path
from secfpp.privacy.events import Gaussian
from secfpp.privacy.ledger import PrivacyLedger, Terms
event = Gaussian(covers="class sums", unit="client", norm=1.0, sd=4.0)
ledger = PrivacyLedger.open(Path(sys.argv[1]), "abc", Terms())
while True:
    ledger.charge(event, ["client-%d" % n for n in range(300)], run="killed", round_=1)
    print("released", flush=True)
"""


def test_a_killed_process_loses_no_release(path: Path) -> None:
    released = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", CHARGING, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "released\n"
            released += 1
        process.send_signal(signal.SIGKILL)
        released += len(process.stdout.read().splitlines())
        process.wait()
        process.stdout.close()
        ledger = opened(path)
        ledger.settle()
        assert len(ledger.charges) >= released


def test_the_usual_place_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path))
    assert default_path("0af3") == tmp_path / "0af3.jsonl"
    monkeypatch.delenv("SECFPP_LEDGERS")
    assert "secfpp" in default_path("0af3").parts and default_path("0af3").is_absolute()
    with pytest.raises(ConfigError, match="fingerprint"):
        default_path("../etc")


def test_another_ledger_is_begun_once_by_all_who_began_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = datetime(2026, 5, 2, tzinfo=UTC)
    monkeypatch.setattr("secfpp.privacy.ledger._now", lambda: "2026-05-01T12:00:00+00:00")
    charge(opened(path), "anna")
    monkeypatch.setattr("secfpp.privacy.ledger._now", lambda: "2026-05-02T00:00:00+00:00")
    first = PrivacyLedger.open(path, opened(path).data, Terms(), new=command)
    assert not first.charges and first.replaces
    charge(first, "anna")
    second = PrivacyLedger.open(path, first.data, Terms(), new=command)
    assert len(second.charges) == 1 and second.replaces == first.replaces


def test_a_ledger_of_the_same_second_is_an_earlier_one_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.privacy.ledger._now", lambda: "2026-05-01T12:00:00.250000+00:00")
    charge(opened(path), "anna")
    new = PrivacyLedger.open(path, opened(path).data, Terms(), new=datetime(2026, 5, 1, 12, 0, 0, 750000, tzinfo=UTC))
    assert not new.charges and new.replaces


def test_terms_out_of_range_are_refused() -> None:
    for bad in ({"delta": 0.0}, {"budget": -1.0}, {"budget": math.inf}, {"unit": "image"}):
        with pytest.raises(ConfigError, match=f"privacy.{next(iter(bad))}"):
            Terms(**bad)  # type: ignore[arg-type]


def test_charging_stays_quick(path: Path) -> None:
    ledger = opened(path)
    for _ in range(300):
        charge(ledger, *(f"client-{number}" for number in range(30)))
    assert len(ledger._known) == 300
