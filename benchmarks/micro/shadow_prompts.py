"""Shadow prompts of several victims trained many in one pass, against one after the other; all in one run.

Icons, 8 images per class and domain; every shadow prompt takes the steps of PromptFL's client from the public start.
Turns of both ways alternate, so that what else the machine does falls on both.

  one        one prompt at a time, float32, as a client trains
  batch      many at a time, float32
  bfloat16   many at a time, in bfloat16, as `secfpp audit` does by default

Run: python benchmarks/micro/shadow_prompts.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from secfpp.algorithms.base import methods
from secfpp.attacks.game import Game, Shadow, halves
from secfpp.attacks.shadows import CHUNK, Pool, take_steps
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol.program import ClientState
from secfpp.runtime.contexts import make_contexts
from secfpp.seeding import derive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--victims", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    exact = load_backbone("mini", device="cpu", threads=asked.threads)
    fast = load_backbone("mini", device="cpu", threads=asked.threads, dtype="bfloat16")
    algorithm = methods()["promptfl"]()
    game = Game.deal(load_icons(IconSettings(shots=16), 0), 0)
    contexts = make_contexts(game.dataset, exact, algorithm, 0)
    rounds = asked.steps // algorithm.training.steps

    def shadows(name: str, backbone: Backbone) -> list[Shadow]:
        images = game.pools[name]
        drawn = halves(len(images), asked.shadows, derive(0, name))
        return list(Pool(contexts[name], images, exact.features(images.images), drawn).shadows(backbone))

    victims = {
        way: [shadows(name, model) for name in list(contexts)[: asked.victims]]
        for way, model in (("one", exact), ("batch", exact), ("bfloat16", fast))
    }
    states = {way: [[algorithm.client_state(s) for s in of] for of in every] for way, every in victims.items()}
    seconds, learned = dict.fromkeys(victims, 0.0), dict[str, np.ndarray]()

    def turn(way: str, number: int) -> None:
        steps = [("method.train", {"round": np.array(number)})]
        started = time.perf_counter()
        for place, of in enumerate(victims[way]):
            now, size = states[way][place], 1 if way == "one" else len(of)
            after: list[ClientState] = []
            for at in range(0, len(of), size):
                after += take_steps(algorithm, of[at : at + size], now[at : at + size], steps)
            states[way][place] = [s.replace(**{"prompt.base": s["prompt"]}) for s in after]
        seconds[way] += time.perf_counter() - started

    for way in victims:
        turn(way, 1)  # warms up; not counted
    seconds = dict.fromkeys(victims, 0.0)
    for number in range(2, rounds + 2):
        for way in victims:
            turn(way, number)
    for way in victims:
        learned[way] = np.stack([s["prompt"] for of in states[way] for s in of])
    print(
        f"{asked.shadows} shadow prompts x {asked.victims} victims x {rounds * algorithm.training.steps} steps, "
        f"{asked.threads} thread(s), {CHUNK['cpu']} prompts in a pass"
    )
    print(f"{'':<10}{'seconds':>10}{'ratio':>8}{'apart':>12}")
    for way, taken in seconds.items():
        moved = np.linalg.norm(learned["one"] - next(iter(contexts.values())).start, axis=(1, 2))
        apart = np.median(np.linalg.norm(learned[way] - learned["one"], axis=(1, 2)) / moved)
        print(f"{way:<10}{taken:>10.1f}{taken / seconds['one']:>8.3f}{apart:>12.4f}")
    print("apart: median distance to the prompt trained alone, as a share of how far that went from the start")


if __name__ == "__main__":
    main()
