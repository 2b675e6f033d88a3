"""One exchange of a server with eight sites over NVIDIA FLARE on loopback, mutual TLS, by size of the message.

    python benchmarks/deploy/flare_exchange.py [--sites 8] [--repeats 30]

Every site echoes what it gets, in a process of its own behind FLARE's worker, so an exchange carries each message
twice. Beside it: what processes take, and how long a job takes from its hand-in to the first exchange and to its end.
Needs `pip install 'secfpp[flare]'`; the stand-ins for sites and server are those of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import tomli_w

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from secfpp.deploy.flare.job import Ended, run_job, write_job
from secfpp.deploy.flare.processes import Federation
from support.flare_parts import RELAY, SERVER, Bound, bound_kits

SIZES = {"1 kB": 1_000, "100 kB": 100_000, "2 MB": 2_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    names = [f"site-{number}" for number in range(given.sites)]
    with tempfile.TemporaryDirectory() as room:
        bound = bound_kits(Path(room), names)
        steps = [{"size": 100, "times": 5}, *({"size": size, "times": given.repeats} for size in SIZES.values())]
        steps.append({"wait": "measured"})
        agreed = tomli_w.dumps({"steps": steps}).encode()
        job = write_job(Path(room) / "job", "bench", agreed, names, least=len(names), server=SERVER, relay=RELAY)
        with bound.federation() as federation:
            began = time.monotonic()
            federation.start_all()
            ended, first = followed(bound, federation, job, Path(room), 5 + len(SIZES) * given.repeats)
            whole = time.monotonic() - began
        told = json.loads((Path(room) / "out" / "told.json").read_text())
    assert ended.status == 0, ended
    assert all(step["same"] and len(step["replies"]) == given.sites for step in told)
    print(f"{given.sites} sites, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.repeats} exchanges each")
    for number, name in enumerate(SIZES):
        start = 5 + number * given.repeats
        spent = sorted(step["seconds"] for step in told[start : start + given.repeats])
        print(f"{name:>8}: median {1e3 * statistics.median(spent):6.1f} ms, longest {1e3 * spent[-1]:6.1f} ms")
    print(f"start of all processes to the first exchange {first - began:.1f} s, to the results {whole:.1f} s")


def followed(bound: Bound, federation: Federation, job: Path, room: Path, exchanges: int) -> tuple[Ended, float]:
    """Run the job; when all exchanges are made, print what processes take. The end, and when the first reply came."""
    found: list[Ended] = []
    thread = threading.Thread(
        target=lambda: found.append(run_job(bound.kits.administrator, job, room / "out", 600.0)), daemon=True
    )
    thread.start()
    told, first = bound.server / "bench" / "results" / "told.json", 0.0
    made = 0
    while thread.is_alive() and made < exchanges:
        time.sleep(0.1)
        if told.exists():
            first = first or time.monotonic()
            try:
                made = len(json.loads(told.read_text()))
            except ValueError:
                continue  # it is just being written
    for part in ("server", "site-0"):
        for process in federation.processes(part):
            role = (
                "relay" if "worker_process" in " ".join(process.cmdline()) else process.cmdline()[3].rpartition(".")[2]
            )
            print(f"{part:>8} {role:<16} {process.memory_info().rss / 1e6:5.0f} MB")
    (bound.server / "bench" / "measured").touch()
    thread.join()
    return found[0], first


if __name__ == "__main__":
    main()
