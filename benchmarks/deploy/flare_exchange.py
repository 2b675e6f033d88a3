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

WARM = 5
ROLES = {"worker_process": "relay", "secfpp.deploy.child": "its work", "runner_process": "job"}
SIZES = {"1 kB": 1_000, "100 kB": 100_000, "2 MB": 2_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    names = [f"site-{number}" for number in range(given.sites)]
    with tempfile.TemporaryDirectory() as room:
        bound = bound_kits(Path(room), names)
        steps: list[dict[str, object]] = [{"size": 100, "times": WARM}]
        steps += [{"size": size, "times": given.repeats, "wait": "go"} for size in SIZES.values()]
        steps.append({"wait": "end"})
        agreed = tomli_w.dumps({"steps": steps}).encode()
        job = write_job(Path(room) / "job", "bench", agreed, names, least=len(names), server=SERVER, relay=RELAY)
        with bound.federation() as federation:
            began = time.monotonic()
            federation.start_all()
            ended, first = followed(bound, federation, job, Path(room), WARM + len(SIZES) * given.repeats)
            whole = time.monotonic() - began
        told = json.loads((Path(room) / "out" / "told.json").read_text())
    assert ended.status == 0, ended
    assert all(step["same"] and len(step["replies"]) == given.sites for step in told)
    print(f"{given.sites} sites, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.repeats} exchanges each")
    for number, name in enumerate(SIZES):
        start = WARM + number * given.repeats
        spent = sorted(step["seconds"] for step in told[start : start + given.repeats])
        print(f"{name:>8}: median {1e3 * statistics.median(spent):6.1f} ms, longest {1e3 * spent[-1]:6.1f} ms")
    print(f"start of all processes to the first exchange {first - began:.1f} s, to the results {whole:.1f} s")


def followed(bound: Bound, federation: Federation, job: Path, room: Path, exchanges: int) -> tuple[Ended, float]:
    """Run the job; print what processes take before and after. How it ended, and when the first replies came."""
    found: list[Ended] = []
    thread = threading.Thread(
        target=lambda: found.append(run_job(bound.kits.administrator, job, room / "out", 600.0)), daemon=True
    )
    thread.start()
    folder = bound.server / "bench"
    first = 0.0
    for what, until, then in (("idle", WARM, "go"), ("after all messages", exchanges, "end")):
        while thread.is_alive() and made(folder) < until:
            time.sleep(0.1)
        first = first or time.monotonic()
        time.sleep(1.0)
        print(f"{what}:")
        for part in ("server", "site-0"):
            for process in federation.processes(part):
                line = " ".join(process.cmdline())
                role = next((role for sign, role in ROLES.items() if sign in line), "FLARE")
                print(f"{part:>8} {role:<10}{process.memory_info().rss / 1e6:5.0f} MB")
        (folder / then).touch()
    thread.join()
    return found[0], first


def made(folder: Path) -> int:
    """How many exchanges are done."""
    try:
        return len(json.loads((folder / "results" / "told.json").read_text()))
    except (OSError, ValueError):  # not there yet, or just being written
        return 0


if __name__ == "__main__":
    main()
