"""One party of MPyC's side of `mpyc_comparisons.py`: signs of secret integers that all parties put in.

Run by that script with MPyC's options -M and -T; the first party prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from mpyc.runtime import mpc


async def main() -> None:
    width, each, repeats = map(int, sys.argv[1:4])
    secure = mpc.SecInt(width)
    await mpc.start()
    parties, own = len(mpc.parties), mpc.pid
    values = np.random.default_rng(0).integers(-(1 << (width - 2)), 1 << (width - 2), (parties, each))
    found = []
    for _ in range(repeats):
        await mpc.transfer(own)  # everybody is there
        wall, work, sent = time.perf_counter(), time.process_time(), _sent(own)
        inputs = mpc.input(secure.array(values[own]))
        negative = mpc.np_sgn(mpc.np_concatenate(inputs), LT=True)
        public = await mpc.output(negative)
        work, wall = time.process_time() - work, time.perf_counter() - wall
        spent = await mpc.transfer((work, _sent(own) - sent))
        right = bool(np.array_equal(np.array(public, dtype=int), (values < 0).reshape(-1)))
        seconds, size = (sum(column) for column in zip(*spent, strict=True))
        found.append({"right": right, "wall": wall, "seconds": seconds, "sent": size})
    await mpc.shutdown()
    if own == 0:
        print(json.dumps(found), flush=True)


def _sent(own: int) -> int:
    return sum(peer.protocol.nbytes_sent for peer in mpc.parties if peer.pid != own)


mpc.run(main())
