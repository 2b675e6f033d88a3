from __future__ import annotations

import struct
import warnings
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from secfpp.errors import ConfigError, DataError, DataWarning
from secfpp.grey_depth import DEPTHS, other_than_trained, window_for
from secfpp.images import as_array, read_images, read_scaled


def deep(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)
    return path


def ramp(largest: int) -> np.ndarray:
    return np.linspace(0, largest, 256).round().astype(np.uint16).reshape(16, 16)


def colours(path: Path, values: np.ndarray) -> Path:
    """A PNG with 16 bits a colour, uint16 [height, width, channels]; Pillow cannot write one."""
    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("bits", DEPTHS)
def test_grey_values_are_scaled_by_the_bits_in_use(bits: int, ending: str, tmp_path: Path) -> None:
    values = ramp(2**bits - 1)
    with pytest.warns(DataWarning, match=f"1 of 1 images .* {2**bits - 1} as white"):
        found, window = read_scaled([deep(tmp_path / f"a.{ending}", values)], 16)
    assert window == (0, 2**bits - 1)
    np.testing.assert_array_equal(found[0, ..., 0], np.rint(values / (2**bits - 1) * 255))


def test_the_bits_are_those_of_all_images_and_not_of_each(tmp_path: Path) -> None:
    bright, dark = deep(tmp_path / "bright.png", ramp(4095)), deep(tmp_path / "dark.png", ramp(255))
    with pytest.warns(DataWarning, match="2 of 2 images") as said:
        found = read_images([dark, bright], 16)
    assert found.max((1, 2, 3)).tolist() == [16, 255]
    assert len(said) == 1  # once for all


def test_other_images_beside_them_are_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.warns(DataWarning, match="1 of 2 images"):
        found = read_images([tmp_path / "a.png", deep(tmp_path / "b.png", ramp(4095))], 16)
    np.testing.assert_array_equal(found[0], pixels)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_stated_window_holds_and_nothing_is_said(kind: type, tmp_path: Path) -> None:
    values = np.array([[0, 100, 160, 200, 3000, 0, 0, 0]] * 8)
    Image.fromarray(values.astype(kind)).save(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, window = read_scaled([tmp_path / "a.tif"], 8, grey_window=(100, 200))
    assert found[0, 0, :5, 0].tolist() == [0, 0, 153, 255, 255] and window == (100, 200)


def test_a_window_may_begin_below_zero(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1000, -300, 400, 900]] * 4, np.int32)).save(tmp_path / "a.tif")
    assert read_images([tmp_path / "a.tif"], 8, grey_window=(-1000, 400))[0, 0, [0, -1], 0].tolist() == [0, 255]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_images_whose_zero_is_white_are_turned_round(kind: type, tmp_path: Path) -> None:
    values = np.array([[0, 60, 200, 255]] * 4, kind)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    shown = values if kind is np.uint16 else 255 - values  # Pillow turns 8 bits round itself, also as it writes them
    Image.fromarray(shown).save(tmp_path / "a.tif", tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as opened:
        assert opened.tag_v2[262] == 0
    found = read_images([tmp_path / "a.tif"], 4, grey_window=(0, 255))
    assert found[0, 0, :, 0].tolist() == [255, 195, 55, 0]


@pytest.mark.parametrize("window", [(5, 5), (9, 3), (0, float("inf")), (float("nan"), 1)])
def test_a_window_with_nothing_in_it_is_refused(window: tuple[float, float], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="grey_window"):
        read_images([deep(tmp_path / "a.png", ramp(255))], 8, grey_window=window)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [(np.float32, 0.5, "floating-point"), (np.int32, 70_000, "70000, more than 16 bits"), (np.int32, -4, "from -4 to")],
)
def test_values_of_unknown_range_are_refused(kind: type, value: float, words: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), value, kind)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif: its values .*{words}.*grey_window = \[LOW, HIGH\]"):
        read_images([tmp_path / "a.tif"], 8)


@given(st.integers(0, 0xFFFF))
def test_the_fewest_bits_that_hold_a_value_are_chosen(largest: int) -> None:
    low, high = window_for(largest)
    assert low == 0 and largest <= high
    assert high == 255 or largest > (int(high) >> 2)


def test_pillow_images_share_the_scale_of_all_that_are_given() -> None:
    bright, dark = (Image.fromarray(ramp(largest)) for largest in (4095, 1000))
    assert as_array([dark, bright], 16).max((1, 2, 3)).tolist() == [62, 255]
    assert as_array([dark, bright], 16, (0, 1000)).max((1, 2, 3)).tolist() == [255, 255]
    assert as_array(dark, 16).max() == 249 and as_array(dark, 16, (0, 4095)).max() == 62


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits_that_would_come_out_dark_are_refused(channels: int, tmp_path: Path) -> None:
    values = np.full((8, 8, channels), 4095, np.uint16)
    values[..., 3 if channels == 4 else channels - 1] = 0xFFFF if channels != 3 else 4095  # opaque
    with pytest.raises(DataError, match="1 images have colours of 16 bits of which at most 12 are in use"):
        read_images([colours(tmp_path / "a.png", values)], 8)


def test_colours_that_use_their_bits_are_read(tmp_path: Path) -> None:
    dark, bright = (np.full((8, 8, 3), value, np.uint16) for value in (4095, 0xFFFF))
    paths = [colours(tmp_path / "dark.png", dark), colours(tmp_path / "bright.png", bright)]
    assert read_images(paths, 8)[:, 0, 0, 0].tolist() == [15, 255]


def test_a_photo_of_sixteen_bits_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    values = np.zeros((16, 16), np.uint16)
    values[:8] = 0xFFFF
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(values).copy()).save(tmp_path / "a.png", exif=exif)
    found = read_images([tmp_path / "a.png"], 16, grey_window=(0, 0xFFFF))[0, ..., 0]
    assert found[:8].min() == 255 and found[8:].max() == 0


def test_what_goes_with_training_is_not_told() -> None:
    whole, cut = (0.0, 4095.0), (-1000.0, 400.0)
    for stated, trained, largest in [
        (None, whole, [4095]),
        (whole, whole, [9000]),
        ((0, 255), whole, []),
        (None, cut, [3000]),  # a window that was stated cuts on purpose
        (None, whole, []),
    ]:
        assert other_than_trained(stated, trained, largest) == "", (stated, trained, largest)
    assert "2 of 3 images have grey values up to 9000" in other_than_trained(None, whole, [1, 5000, 9000])
    assert "-1000 as black" in other_than_trained(cut, whole, [1])


@pytest.mark.parametrize("form", ["path", "picture", "both", "folder"])
def test_images_in_any_form_are_read_as_in_training_and_told_of(form: str, tmp_path: Path) -> None:
    path = deep(tmp_path / "a.png", np.full((8, 8), 2000))
    bright = deep(tmp_path / "b.png", np.full((8, 8), 5000))

    def in_form(file: Path) -> Any:
        with Image.open(file) as image:
            image.load()
        return {"path": file, "picture": image, "both": [image, file], "folder": file.parent}[form]

    with nullcontext() if form != "folder" else pytest.warns(DataWarning, match="1 of 2 images"):
        dark = as_array(in_form(path), 8, trained=(0, 4095))
    assert dark[0, 0, 0, 0] == round(2000 / 4095 * 255)
    with pytest.warns(DataWarning, match="grey values up to 5000, and in training 0 was black and 4095 white"):
        assert as_array(in_form(bright), 8, trained=(0, 4095))[-1].min() == 255
