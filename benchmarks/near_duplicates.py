"""How far apart difference hashes of copies and of different pictures are; the figures of docs/data/index.md.

Pictures are square pieces of the two photos that scikit-learn comes with, and handwritten digits. Needs secfpp[digits].
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from secfpp.data.checks import SIDE
from secfpp.data.digits import DigitSettings, load_digits
from secfpp.data.near_duplicates import NEAR, difference_hashes
from secfpp.images import to_square


def pieces() -> list[Image.Image]:
    """Pieces of four sizes, 224 pixels each; those of one size do not overlap."""
    return [
        photo.crop((x, y, x + side, y + side)).resize((224, 224), Image.Resampling.BICUBIC)
        for photo in map(Image.fromarray, load_sample_images().images)
        for side in (60, 90, 130, 200)
        for y in range(0, photo.height - side + 1, side)
        for x in range(0, photo.width - side + 1, side)
    ]


def saved_again(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(BytesIO(file.getvalue()))


CHANGES = {
    "JPEG of quality 30": saved_again,
    "half the size": lambda image: image.resize((112, 112)),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "20 % less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "2 % cut off at each side": lambda image: image.crop((4, 4, 220, 220)),
}


def hashes(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    return difference_hashes(np.stack([to_square(image, SIDE) for image in images]))


def between(name: str, found: np.ndarray) -> None:
    bits = np.bitwise_count(found[:, None] ^ found[None]).sum(2)[np.triu_indices(len(found), 1)]
    share = (bits <= NEAR).mean()
    print(f"{name}: {len(found)}, {len(bits):,} pairs, {share:.4%} within {NEAR} bits, the nearest {bits.min()}")


def main() -> None:
    photos = pieces()
    original, telling = hashes(photos)
    print(f"{telling.sum()} of {len(photos)} pieces of photos have structure")
    for name, change in CHANGES.items():
        bits = np.bitwise_count(original ^ hashes([change(image) for image in photos])[0]).sum(1)[telling]
        print(f"{name}: {(bits <= NEAR).mean():.1%} within {NEAR} bits")
    between("different pieces", original[telling])
    digits = load_digits(DigitSettings(), 0)
    drawn = [Image.fromarray(image) for client in digits.clients for image in client.train.images]
    found, usable = hashes(drawn)
    between("digits", found[usable])


if __name__ == "__main__":
    main()
