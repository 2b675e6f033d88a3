"""One exchange of a server with its sites over Flower on loopback, with TLS, by number of sites and size of message.

    python benchmarks/deploy/flower_exchange.py [--sites 1 4 8] [--repeats 8]

Every site echoes what it gets, in a warm process of its own behind a relay and Flower's SuperNode, so an exchange
carries each message twice. Beside it: what processes take, how long a run takes from its start to its end without its
exchanges, and what that makes of a default secure run of 8 rounds. Needs `pip install -c constraints-flower.txt
'.[flower]'`; the stand-ins for sites and server are those of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import tomli_w

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from secfpp.algorithms.secfpp import SecFPP
from secfpp.deploy.flower.expected import protocol_exchanges
from secfpp.deploy.flower.job import run_app, write_app
from secfpp.deploy.flower.processes import PARTS, SERVER, Federation
from secfpp.errors import ConfigError
from support.flower_parts import ASKING, TESTS, bound_sites

ROUNDS = 8
SIZES = {"1 kB": 1_000, "2 MB": 2_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--repeats", type=int, default=8)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(TESTS)  # Flower's command line looks whether an app names modules that exist
    for sites in given.sites:
        with tempfile.TemporaryDirectory() as room:
            measure(Path(room), sites, given.repeats)


def measure(room: Path, sites: int, repeats: int) -> None:
    """Make the exchanges with so many sites and print what they took."""
    bound = bound_sites(room, [f"site-{number}" for number in range(sites)])
    steps = [{"size": size, "times": repeats, "deadline": 120.0} for size in SIZES.values()]
    app = write_app(room / "app", "bench", tomli_w.dumps({"steps": steps}).encode(), server=ASKING)
    with bound.federation() as federation:
        began = time.monotonic()
        federation.start_all()
        up = time.monotonic() - began
        ended = run_app(federation.link, bound.server, app, "bench", room / "out", 1800.0)
        whole = time.monotonic() - began - up
        memory = {part: megabytes(federation, part) for part in (SERVER, *(f"site-0:{part}" for part in PARTS))}
    assert ended.status == 0, ended
    told = json.loads((room / "out" / "told.json").read_text())
    assert all(step["same"] and len(step["replies"]) == sites for step in told)
    print(f"{sites} sites, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {repeats} exchanges each")
    for number, name in enumerate(SIZES):
        spent = sorted(step["seconds"] for step in told[number * repeats : (number + 1) * repeats])
        print(f"{name:>8}: median {statistics.median(spent):5.2f} s, longest {spent[-1]:5.2f} s")
    beside = whole - sum(step["seconds"] for step in told)
    print(f"all processes up after {up:.1f} s; a run takes {beside:.1f} s beside its exchanges")
    print(", ".join(f"{part} {size:.0f} MB" for part, size in memory.items()))
    short = statistics.median(step["seconds"] for step in told[:repeats])
    with suppress(ConfigError):  # too few sites for the method
        exchanges = protocol_exchanges(SecFPP(), ROUNDS, sites) + SecFPP().planned(ROUNDS) + 2
        print(f"so {ROUNDS} rounds take {exchanges} exchanges and {(exchanges * short + beside) / 60:.1f} minutes")


def megabytes(federation: Federation, part: str) -> float:
    """Resident memory of a part's processes."""
    return float(sum(process.memory_info().rss for process in federation.running(part)) / 1e6)


if __name__ == "__main__":
    main()
