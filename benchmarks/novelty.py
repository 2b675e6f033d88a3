"""How many pictures that no client has are told from the client's own (`secfpp.models.novelty`).

    python benchmarks/novelty.py [--seeds 0] [--set KEY=VALUE ...]

On configs/icons.toml with the embedded model, in percent of pictures above the threshold of a client's prompt, mean
over clients and the lowest and highest client; 5 % of its own kind are meant to be. Then the area under the ROC curve,
by which the score tells them from test images of the client's domain and classes, whatever the threshold. Rows:
  own classes      test images of the client's domain, of classes that it has
  other classes    of classes that it has no training image of
  other domains    test images of the other domains
  noise, colours, stripes    made up: independent pixels, one colour, waves
  digits, photos   scikit-learn's digits, black on white, and crops of its two photographs
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import roc_auc_score

from secfpp.experiment.results.summary import novelties
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import load_config
from secfpp.models.backbone import load_backbone
from secfpp.models.novelty import novelty

CONFIG = Path(__file__).parents[1] / "configs" / "icons.toml"
COUNT = 200


def foreign(size: int) -> dict[str, np.ndarray]:
    """Pictures that no client has, by kind: uint8 [COUNT, size, size, 3] each."""
    rng = np.random.default_rng(0)
    colours = np.broadcast_to(rng.integers(0, 256, (COUNT, 1, 1, 3), dtype=np.uint8), (COUNT, size, size, 3))
    waves = np.sin(rng.uniform(0.1, 2, (COUNT, 1, 1, 3)) * np.arange(size)[None, :, None, None])
    digits = [Image.fromarray(np.uint8(255 - 15.9 * one)).resize((size, size)) for one in load_digits().images[:COUNT]]
    photos = []
    for i in range(COUNT):
        photo = load_sample_images().images[i % 2]
        side = rng.integers(size, min(photo.shape[:2]))
        top, left = (rng.integers(0, length - side + 1) for length in photo.shape[:2])
        photos.append(Image.fromarray(photo[top : top + side, left : left + side]).resize((size, size)))
    return {
        "noise": rng.integers(0, 256, (COUNT, size, size, 3), dtype=np.uint8),
        "colours": np.array(colours),
        "stripes": np.uint8(127.5 + 127.5 * np.broadcast_to(waves, (COUNT, size, size, 3))),
        "digits": np.stack([np.asarray(one.convert("RGB")) for one in digits]),
        "photos": np.stack([np.asarray(one) for one in photos]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the config")
    given = parser.parse_args()
    config, backbone = load_config(CONFIG, given.set), load_backbone("mini")
    shares, curves = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for seed in given.seeds:
        data = load_dataset(config, seed)
        others = {name: backbone.features(images).cpu().numpy() for name, images in foreign(data.image_size).items()}
        tests = {domain: backbone.features(split.images).cpu().numpy() for domain, split in data.test.items()}
        known = novelties(data, backbone)
        for client in data.clients:
            one, features = known[client.name], tests[client.domain]
            has = np.isin(data.test[client.domain].labels, client.train.labels)
            pictures = {
                "own classes": features[has],
                "other classes": features[~has],
                "other domains": np.concatenate([tests[domain] for domain in tests if domain != client.domain]),
                **others,
            }
            scores = {name: novelty(found, one.mean, one.spread) for name, found in pictures.items() if len(found)}
            own = scores["own classes"]
            for name, found in scores.items():
                shares[name].append(100 * float((found > one.threshold).mean()))
                truth = np.repeat([0, 1], [len(own), len(found)])
                curves[name].append(float(roc_auc_score(truth, np.concatenate([own, found]))))
    print(f"{'':16}{'above':>8}{'lowest':>8}{'highest':>8}{'area':>8}")
    for name, values in shares.items():
        area = "" if name == "own classes" else f"{np.mean(curves[name]):.3f}"
        print(f"{name:16}{np.mean(values):8.1f}{min(values):8.1f}{max(values):8.1f}{area:>8}")
    print(f"n = {len(shares['own classes'])} clients")


if __name__ == "__main__":
    main()
