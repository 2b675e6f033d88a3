from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secfpp import images
from secfpp.errors import DataError
from secfpp.images import as_array, read_images, read_scaled, read_small, to_square
from support.picture_folders import picture


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_image_of_the_right_size_comes_back_to_the_bit(tmp_path: Path) -> None:
    pixels = noise(16, 16, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16), pixels)


def read_image(path: Path, size: int) -> np.ndarray:
    return read_images([path], size)[0]


MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK")
STARTS = (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00", b"BM")


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(8, 30), st.sampled_from(MODES))
def test_any_shape_and_mode_becomes_a_square_of_rgb(width: int, height: int, size: int, mode: str) -> None:
    square = to_square(Image.new("RGB", (width, height), "white").convert(mode), size)
    assert square.shape == (size, size, 3) and square.dtype == np.uint8
    assert square.min() == 255  # nothing dark came in from outside the image


def test_the_middle_is_kept_and_the_long_side_cut() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert to_square(Image.fromarray(wide), 10).min() == 255
    assert to_square(Image.fromarray(wide.transpose(1, 0, 2)), 10).min() == 255


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # bright above
    lying = Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    lying.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 16), pixels)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_white_not_black(mode: str) -> None:
    drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (0, 0, 8, 4))
    square = to_square(drawing.convert(mode), 8)
    assert square[:4].max() == 0 and square[4:].min() == 255


def test_a_palette_with_a_transparent_colour_is_white_there(tmp_path: Path) -> None:
    drawing = Image.new("P", (8, 8), 0)
    drawing.putpalette([0, 0, 0, 255, 0, 0])
    drawing.save(tmp_path / "a.gif", transparency=0)
    assert read_image(tmp_path / "a.gif", 8).min() == 255


def test_a_large_jpeg_looks_the_same_when_decoded_at_a_fraction(tmp_path: Path) -> None:
    y, x = np.mgrid[0:640, 0:640]
    smooth = np.stack([x * 255 // 640, y * 255 // 640, (x + y) * 255 // 1280], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    whole = to_square(Image.fromarray(smooth), 32).astype(int)
    assert np.abs(read_image(tmp_path / "a.jpg", 32).astype(int) - whole).max() <= 6


def damaged(path: Path) -> Path:
    """A file whose end is missing."""
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif", "a.tif"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name}: damaged, or not an image. Replace or remove"):
        read_image(damaged(tmp_path / name), 16)


@settings(max_examples=100)
@given(tail=st.binary(max_size=200), head=st.sampled_from(STARTS))
def test_no_bytes_whatever_raise_anything_else(
    tail: bytes, head: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.png"
    path.write_bytes(head + tail)
    with pytest.raises(DataError, match=r"fuzz\.png: "):
        read_image(path, 8)


def test_every_broken_file_is_named_at_once_but_not_hundreds(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        path.write_bytes(b"no image")
    picture(tmp_path / "good.png")
    with pytest.raises(DataError) as caught:
        read_images([*paths, tmp_path / "good.png"], 8)
    assert str(caught.value).count("damaged") == 10 and str(caught.value).endswith("; and 2 more files")
    assert "good" not in str(caught.value)


def test_images_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{i}.png", (i, i, i)) for i in range(40)]
    assert read_images(paths, 8)[:, 0, 0, 0].tolist() == list(range(40))


def test_an_interrupted_reader_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Image.Image] = []

    def square(image: Image.Image, size: int, window: object) -> np.ndarray:
        seen.append(image)
        if len(seen) == 3:
            raise KeyboardInterrupt
        time.sleep(0.002)
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr(images, "to_square", square)
    with pytest.raises(KeyboardInterrupt):
        read_images([picture(tmp_path / "a.png")] * 2000, 8)
    assert len(seen) < 1000


def test_more_images_than_memory_are_refused_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1,000 images of 512 x 512 pixels need 0\.7 GiB .* limit of 0\.5: take fewer"):
        read_images([tmp_path] * 1000, 512, 0.5)


def test_a_huge_image_is_refused_without_decoding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    picture(tmp_path / "a.png", size=(50, 40))
    with pytest.raises(DataError, match=r"a\.png: 50 x 40 pixels, at most 100 in all are read; shrink it"):
        read_image(tmp_path / "a.png", 8)


def test_a_decompression_bomb_is_an_error_not_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png", size=(50, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    assert read_images([tmp_path / "a.png"], 8).shape == (1, 8, 8, 3)  # larger than Pillow likes, fine for us
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DataError, match=r"a\.png"):
        read_images([tmp_path / "a.png"], 8)


def test_a_missing_or_forbidden_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: No such file"):
        read_image(tmp_path / "none.png", 8)


def test_every_form_of_images_gives_the_same_array(tmp_path: Path) -> None:
    pixels = noise(2, 16, 16, 3)
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    opened = [Image.fromarray(image) for image in pixels]
    mixed = [paths[0], opened[1]]
    for form in (pixels, list(pixels), paths, [str(p) for p in paths], tmp_path, str(tmp_path), opened, mixed):
        np.testing.assert_array_equal(as_array(form, 16), pixels)
    for single in (pixels[0], paths[0], opened[0]):
        np.testing.assert_array_equal(as_array(single, 16), pixels[:1])


def test_arrays_of_several_sizes_are_brought_to_one() -> None:
    assert as_array([noise(10, 12, 3), noise(20, 9, 3)], 16).shape == (2, 16, 16, 3)


NO_IMAGES = (np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((2, 4, 4, 1), np.uint8), [], [3], 7, None)


@pytest.mark.parametrize("wrong", NO_IMAGES)
def test_what_is_no_image_is_refused_with_what_would_do(wrong: object) -> None:
    with pytest.raises(DataError, match="give"):
        as_array(wrong)  # type: ignore[arg-type]


def test_images_that_fit_neither_in_memory_nor_on_a_disk_are_told_of(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"set SECFPP_CACHE to a folder that can be written, or allow more memory"):
        read_scaled([file], 16, 1e-9, spill=tmp_path / "file" / "images")


def test_a_look_at_images_names_the_broken_ones_by_position(tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{i}.png", (i, 50, 50)) for i in range(30)]
    for i in (3, 20):
        files[i].write_bytes(b"no image")
    images, broken = read_small(files, 8)
    assert sorted(broken) == [3, 20] and broken[3].startswith(f"{files[3]}: damaged, or not an image")
    assert images[:, 0, 0, 0].tolist() == [0 if i in broken else i for i in range(30)]


def test_every_broken_image_is_a_finding_though_the_message_names_ten(tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{i}.png") for i in range(12)]
    for file in files:
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="and 2 more files") as caught:
        read_images(files, 8)
    assert [each.partition(":")[0] for each in caught.value.findings] == [str(file) for file in files]


def test_pixels_that_are_stored_elsewhere_are_read_as_they_are() -> None:
    class Rows:
        def __init__(self, pixels: np.ndarray) -> None:
            self.pixels = pixels

        def content(self) -> np.ndarray:
            return self.pixels

    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_images([Rows(one) for one in pixels], 32), pixels)
