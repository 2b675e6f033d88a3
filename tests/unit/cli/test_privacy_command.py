from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.privacy.calibration import Encoding, SharedNoise, calibrate_gaussian, calibrate_skellam
from secfpp.privacy.events import Gaussian, Uncovered
from secfpp.privacy.ledger import PrivacyLedger, Terms, default_path

SUM = Gaussian(covers="class sums", unit="client", norm=1.0, sd=4.0)


def secfpp(*words: str) -> Any:
    return CliRunner().invoke(app, ["privacy", *words])


def works(*words: str) -> str:
    result = secfpp(*words)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def fails(*words: str) -> str:
    result = secfpp(*words)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path / "ledgers"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def path(place: Path) -> Path:
    ledger = PrivacyLedger.open(place / "mine.jsonl", "0af3", Terms())
    ledger.charge(SUM, ["anna", "ben"], run="first", round_=1)
    ledger.charge(SUM, ["ben"], run="second", round_=4)
    return ledger.path


def test_noise_made_together_is_told_with_its_price() -> None:
    words = ["calibrate", "--epsilon", "4", "--members", "5", "--least", "4", "--size", "512"]
    found = calibrate_skellam(4.0, 1e-5, 10, Encoding(0.5, 16, 512), SharedNoise(5, 4, 2))
    told = json.loads(works(*words, "--json"))
    assert (told["multiplier"], told["part"], told["mean_sd"]) == (found.multiplier, found.part, found.mean_sd)
    assert told["price"]["together"] == pytest.approx(math.sqrt(5 / 2))
    own = next(row for row in told["table"] if row["at"] == 5)["values"]
    assert own[1] == pytest.approx(told["mean_length"]) and own == sorted(own)
    text = works(*words)
    assert f"noise multiplier {found.multiplier:.4g}" in text and "x1.581" in text and "epsilon 8" in text


def test_noise_of_one_who_is_trusted_is_told_by_releases() -> None:
    words = ["calibrate", "--epsilon", "3", "--mechanism", "gaussian", "--unit", "record", "--releases", "40"]
    told = json.loads(works(*words, "--adjacency", "replace_one", "--json"))
    found = calibrate_gaussian(3.0, 1e-5, 40, unit="record", adjacency="replace_one")
    assert told["multiplier"] == found.multiplier and told["spent"] <= 3 and told["sd"] == 0.5 * found.multiplier
    row = next(row for row in told["table"] if row["at"] == 40)["values"]
    assert row[[8, 4, 3, 2, 1].index(3)] == found.multiplier
    assert "  40  " in works(*words)
    assert json.loads(works(*words, "--rate", "0.1", "--json"))["multiplier"] < found.multiplier


def test_what_cannot_be_planned_is_told_by_name() -> None:
    assert "someone's noise must stay unknown" in fails(
        "calibrate", "--epsilon", "4", "--members", "3", "--threshold", "3"
    )
    assert "epsilon = -1.0" in fails("calibrate", "--epsilon", "-1")
    assert "delta = 2.0" in fails("calibrate", "--epsilon", "1", "--delta", "2")
    assert "bits = 99" in fails("calibrate", "--epsilon", "1", "--bits", "99")


def test_a_ledger_is_listed_with_what_is_left(path: Path) -> None:
    spent = PrivacyLedger.read(path, Terms()).spent()
    text = works("ledger", str(path), "--budget", "4")
    assert "data 0af3, 2 releases" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  ben")] == [
        ["ben", f"{spent['ben']:.4g}", f"{4 - spent['ben']:.4g}"]
    ]
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("  class sums")] == [
        f"{spent['anna']:.4g}",
        f"{spent['ben']:.4g}",
    ]
    (told,) = json.loads(works("ledger", str(path), "--json"))["ledgers"]
    assert told["spent"] == spent and [one["round"] for one in told["charges"]] == [1, 4]


def test_what_was_not_covered_is_said(path: Path) -> None:
    PrivacyLedger.open(path, "0af3", Terms()).charge(
        Uncovered(covers="groups", unit="client"), ["anna"], run="third", round_=1
    )
    text = works("ledger", str(path), "--budget", "4")
    assert "not covered: groups" in text and "infinite" in text
    told = json.loads(works("ledger", str(path), "--json"))["ledgers"][0]
    assert told["epsilon"] is None and told["spent"]["anna"] is None and told["spent"]["ben"] > 0


def test_a_ledger_is_told_by_what_its_releases_hide(place: Path) -> None:
    images = Gaussian(covers="sums of images", unit="record", norm=1.0, sd=4.0)
    file = place / "images.jsonl"
    PrivacyLedger.open(file, "0af3", Terms("record")).charge(images, ["anna"], run="r", round_=1)
    assert ", by record, add_remove" in works("ledger", str(file))
    assert "infinite" in works("ledger", str(file), "--unit", "client")
    told = json.loads(works("ledger", str(file), "--json"))["ledgers"][0]
    assert told["unit"] == "record" and told["epsilon"] > 0


def test_a_half_written_line_is_shown_and_settled(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    assert "half-written" in works("ledger", str(path))
    assert "half-written" not in works("ledger", str(path), "--settle")
    assert PrivacyLedger.read(path, Terms()).torn == 1


def test_a_run_leads_to_the_ledgers_of_its_data(place: Path) -> None:
    run = place / "run"
    (run / "partitions").mkdir(parents=True)
    for seed, digest in ((0, "aa11"), (1, "bb22")):
        (run / "partitions" / f"{seed}.json").write_text(json.dumps({"digest": digest}))
    assert works("ledger", str(run)).startswith("nothing was charged")
    PrivacyLedger.open(default_path("bb22"), "bb22", Terms()).charge(SUM, ["anna"], run="run", round_=1)
    text = works("ledger", str(run))
    assert "data bb22, one release\n" in text and "aa11" not in text


def test_what_is_no_ledger_is_refused(place: Path) -> None:
    assert "No such file" in fails("ledger", str(place / "missing"))
    assert "no directory of a run" in fails("ledger", str(place))
    (place / "other").write_text("{}\n")
    assert "other" in fails("ledger", str(place / "other"))


def test_the_page_shows_what_is_printed() -> None:
    page = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text()
    block = next(text for text in page.split("```")[1::2] if "privacy calibrate" in text)
    _, command, *printed = block.strip().splitlines()
    assert works(*command.removeprefix("$ secfpp privacy ").split()).splitlines() == printed
