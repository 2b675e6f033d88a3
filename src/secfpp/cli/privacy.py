"""`secfpp privacy`: the noise that a budget needs, and what was spent of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from secfpp.privacy.calibration import Encoding, SharedNoise
    from secfpp.privacy.ledger import PrivacyLedger, Terms

privacy = typer.Typer(no_args_is_help=True, help="Plan the noise of differential privacy, and see what was spent.")

EPSILONS = (8.0, 4.0, 2.0, 1.0)
MEMBERS = (5, 10, 20, 50, 200, 1000)
RELEASES = (1, 10, 100, 1000)


class Mechanism(StrEnum):
    """Which noise."""

    SKELLAM = "skellam"
    GAUSSIAN = "gaussian"


class UnitName(StrEnum):
    """Whose presence is hidden."""

    CLIENT = "client"
    RECORD = "record"


class AdjacencyName(StrEnum):
    """Which data sets are neighbours."""

    ADD_REMOVE = "add_remove"
    REPLACE_ONE = "replace_one"


DELTA = typer.Option(1e-5, metavar="D", help="Delta, well below one over the number of units.")
ADJACENCY = typer.Option(AdjacencyName.ADD_REMOVE, help="What neighbours differ by: a unit, or what a unit holds.")
JSON = typer.Option(False, "--json", help="Print JSON.")


@privacy.command("calibrate")
def calibrate(
    epsilon: float = typer.Option(..., metavar="E", help="What all releases may cost together."),
    delta: float = DELTA,
    releases: int = typer.Option(10, metavar="N", help="How many sums are released, over all rounds."),
    mechanism: Mechanism = typer.Option(
        Mechanism.SKELLAM, help="skellam: members make the noise together. gaussian: one who is trusted adds it."
    ),
    unit: UnitName = typer.Option(UnitName.CLIENT, help="Whose presence is hidden."),
    adjacency: AdjacencyName = ADJACENCY,
    clip: float = typer.Option(0.5, metavar="C", help="Largest L2 norm of what one unit gives to a sum."),
    rate: float = typer.Option(1.0, metavar="Q", help="gaussian: probability of a unit to be drawn, in secret."),
    members: int = typer.Option(20, metavar="N", help="skellam: how many give to a sum."),
    least: int | None = typer.Option(
        None, metavar="N", help="skellam: fewest with whom it is released; all by default."
    ),
    threshold: int = typer.Option(2, metavar="T", help="skellam: how many of them may collude."),
    bits: int = typer.Option(16, metavar="B", help="skellam: binary places that are kept."),
    size: int = typer.Option(2048, metavar="D", help="skellam: numbers in what is summed."),
    as_json: bool = JSON,
) -> None:
    """Tell how much noise a budget needs, what making it together costs, and how that falls with more members."""
    from secfpp.cli.output import aligned, print_json

    asked = {"epsilon": epsilon, "delta": delta, "releases": releases, "unit": unit.value, "adjacency": adjacency.value}
    if mechanism is Mechanism.GAUSSIAN:
        found = _gaussian(asked, clip, rate)
    else:
        from secfpp.privacy.calibration import Encoding, SharedNoise

        shared = SharedNoise(members, members if least is None else least, threshold)
        found = _skellam(asked, Encoding(clip, bits, size), shared)
    if as_json:
        print_json({"mechanism": mechanism.value, **asked, **found})
        return
    typer.echo(
        f"{releases} releases, epsilon {found['spent']:.4g} at delta {delta:g}, by {unit.value}, {adjacency.value}"
    )
    for line in _told(found):
        typer.echo(line)
    if found["table"]:
        head = [found["rows"], *(f"epsilon {each:g}" for each in _epsilons(epsilon))]
        typer.echo(f"\n{found['caption']}")
        rows = [[f"{row['at']:,}", *(_figure(value) for value in row["values"])] for row in found["table"]]
        typer.echo("\n".join(f"  {line}" for line in aligned([head, *rows])))


def _gaussian(asked: dict[str, Any], clip: float, rate: float) -> dict[str, Any]:
    from secfpp.privacy.calibration import calibrate_gaussian

    about = {"unit": asked["unit"], "adjacency": asked["adjacency"]}
    one = calibrate_gaussian(asked["epsilon"], asked["delta"], asked["releases"], rate=rate, **about)
    table = [
        {
            "at": times,
            "values": [
                calibrate_gaussian(each, asked["delta"], times, **about).multiplier
                for each in _epsilons(asked["epsilon"])
            ],
        }
        for times in sorted({*RELEASES, asked["releases"]})
        if rate == 1
    ]
    return {
        "spent": one.epsilon,
        "multiplier": one.multiplier,
        "sd": one.multiplier * clip,
        "clip": clip,
        "rate": rate,
        "rows": "releases",
        "caption": "noise multiplier:",
        "table": table,
    }


def _skellam(asked: dict[str, Any], encoding: Encoding, shared: SharedNoise) -> dict[str, Any]:
    from secfpp.privacy.calibration import calibrate_gaussian, calibrate_skellam

    about = {"unit": asked["unit"], "adjacency": asked["adjacency"]}
    terms = (asked["delta"], asked["releases"])
    one = calibrate_skellam(asked["epsilon"], *terms, encoding, shared, **about)
    trusted = calibrate_gaussian(asked["epsilon"], *terms, **about)
    alone = replace(shared, members=1, least=1, colluding=0)
    length = math.sqrt(encoding.size) / encoding.clip
    by_epsilon = [calibrate_skellam(e, *terms, encoding, alone, **about) for e in _epsilons(asked["epsilon"])]
    table = []
    for count in sorted({*MEMBERS, shared.members}):
        least = math.ceil(count * shared.least / shared.members)
        if least > shared.colluding:
            price = replace(shared, members=count, least=least).price
            table.append({"at": count, "values": [each.mean_sd * length * price / count for each in by_epsilon]})
    return {
        "spent": one.epsilon,
        "multiplier": one.multiplier,
        "sd": one.multiplier * encoding.clip,
        "clip": encoding.clip,
        "bits": encoding.bits,
        "size": encoding.size,
        "members": shared.members,
        "least": shared.least,
        "threshold": shared.colluding,
        "variance": one.variance,
        "part": one.part,
        "mean_sd": one.mean_sd,
        "mean_length": one.mean_sd * length,
        "price": {"together": shared.price, "integers": one.multiplier / trusted.multiplier},
        "rows": "members",
        "caption": "length of the noise on the mean, in clips:",
        "table": table,
    }


def _told(found: dict[str, Any]) -> list[str]:
    """What was found, line by line."""
    clip = found["clip"]
    lines = [
        f"noise multiplier {found['multiplier']:.4g}: standard deviation {found['sd']:.4g} on a sum, clip {clip:g}"
    ]
    if "members" not in found:
        return lines
    members, there, price = found["members"], found["least"], found["price"]
    unknown = there - found["threshold"]
    return [
        *lines,
        f"each of {members} members adds Skellam noise of variance {found['part']:.4g} in steps of 2^-{found['bits']}",
        f"on the mean of {members}: standard deviation {found['mean_sd']:.4g} in each of "
        f"{found['size']:,} numbers, length {found['mean_length']:.3g} clips",
        f"price: x{price['together']:.3f} as {there} members may have to do, {unknown} of them to hide their noise;",
        f"       x{price['integers']:.3f} for integers, and for a bound by Renyi divergences",
    ]


def _epsilons(target: float) -> Sequence[float]:
    return sorted({*EPSILONS, target}, reverse=True)


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


@privacy.command("ledger")
def ledger(
    place: Path = typer.Argument(metavar="PATH_OR_RUN", help="A ledger, or the directory of a run."),
    delta: float = DELTA,
    unit: UnitName | None = typer.Option(
        None, help="Whose presence is hidden; what all releases hide, if not given.", show_default=False
    ),
    adjacency: AdjacencyName = ADJACENCY,
    budget: float | None = typer.Option(None, metavar="E", help="The budget, to see what is left of it."),
    settle: bool = typer.Option(False, "--settle", help="Note that a half-written last line was no release."),
    as_json: bool = JSON,
) -> None:
    """List what was released about the data, and what that costs each client, over all runs."""
    from secfpp.cli.output import print_json
    from secfpp.privacy.events import Unit
    from secfpp.privacy.ledger import PrivacyLedger, Terms

    files = _ledgers(place)
    if not files and not as_json:
        typer.echo(f"nothing was charged: there is no ledger of the data of {place}")
    found = []
    for file in files:
        hidden = {one.event.unit for one in PrivacyLedger.read(file, Terms()).charges}
        by: Unit = unit.value if unit else "record" if "record" in hidden else "client"
        terms = Terms(by, adjacency.value, delta, budget)
        if settle:
            PrivacyLedger.read(file, terms).settle()
        opened = PrivacyLedger.read(file, terms)
        found.append(_as_json(opened)) if as_json else _print(opened, terms)
    if as_json:
        print_json({"ledgers": found})


def _ledgers(place: Path) -> list[Path]:
    """The ledger itself, or those of the data sets of a run, as far as there are any."""
    import json

    from secfpp.errors import DataError
    from secfpp.privacy.ledger import default_path

    if not place.is_dir():
        return [place]
    partitions = sorted(place.glob("partitions/*.json"))
    if not partitions:
        raise DataError(f"{place}: no directory of a run, which has partitions/. Name a run, or the file of a ledger")
    try:
        tables = [json.loads(file.read_bytes()) for file in partitions]
        names = dict.fromkeys(str(table.get("pictures", table["digest"])) for table in tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place}/partitions cannot be read ({error}): name the file of the ledger") from error
    return [path for path in map(default_path, names) if path.exists()]


def _as_json(opened: PrivacyLedger) -> dict[str, Any]:
    from secfpp.privacy.events import to_json

    charges = [
        {"run": one.run, "round": one.round, "clients": one.clients, "event": to_json(one.event), "at": one.at}
        for one in opened.charges
    ]
    spent = {client: value if math.isfinite(value) else None for client, value in opened.spent().items()}
    state = {"data": opened.data, "replaces": opened.replaces, "half_written": opened.half_written, "torn": opened.torn}
    return {"path": str(opened.path), **state, **opened.summary(), "spent": spent, "charges": charges}


def _print(opened: PrivacyLedger, terms: Terms) -> None:
    from secfpp.cli.output import aligned
    from secfpp.experiment.results.text import counted

    charges = opened.charges
    typer.echo(f"{opened.path}: data {opened.data[:16]}, {counted(len(charges), 'release')}")
    if opened.replaces:
        typer.echo(f"begun anew: what is in {opened.replaces} is not counted")
    if opened.half_written:
        typer.echo("the last line is half-written: before its release was made, all ended. See --settle")
    typer.echo(f"epsilon at delta {terms.delta:g}, by {terms.unit}, {terms.adjacency}")
    if not charges:
        return
    rows = [["release", "run", "round", "clients", "mechanism", "epsilon so far"]]
    for number, one in enumerate(charges, 1):
        most = max(opened.spent(upto=number).values())
        place = [one.run, str(one.round), str(len(one.clients)), one.event.kind]
        rows.append([one.event.covers or "-", *place, _amount(most)])
    clients = [["client", "epsilon", *["left"] * (terms.budget is not None)]]
    for client, value in opened.spent().items():
        left = [] if terms.budget is None else [_amount(max(0.0, terms.budget - value))]
        clients.append([client, _amount(value), *left])
    for table in (rows, clients):
        typer.echo("\n" + "\n".join(f"  {line}" for line in aligned(table)))
    if missing := opened.summary()["not_covered"]:
        typer.echo(f"\nnot covered: {', '.join(missing)}")


def _amount(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "infinite"
