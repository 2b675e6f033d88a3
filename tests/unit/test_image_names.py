from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from secfpp import image_names
from secfpp.errors import DataError, DataWarning
from secfpp.image_names import endings, find_images, is_image_name
from secfpp.images import as_array, read_images
from support.picture_folders import picture

USUAL = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@pytest.mark.parametrize("ending", [*USUAL, ".jfif", ".avif", ".heic", ".jp2", ".pgm", ".tga", ".MPO"])
def test_what_pillow_reads_counts_as_an_image(ending: str, tmp_path: Path) -> None:
    assert is_image_name(f"a{ending}") and not is_image_name(f".a{ending}")


@pytest.mark.parametrize("name", ["a.txt", "a.pdf", "a.h5", "a.eps", "a.mpg", "a.dcm", "png", "a.svg", "a.png.txt", ""])
def test_what_it_does_not_decode_itself_does_not(name: str) -> None:
    assert not is_image_name(name)


@pytest.mark.parametrize("ending", [".jfif", ".avif", ".heic", ".jp2", ".ppm", ".tga", ".pcx"])
def test_such_files_are_read(ending: str, tmp_path: Path) -> None:
    path = picture(tmp_path / f"a{ending}", (200, 40, 40), (16, 16))
    red, green, blue = read_images([path], 8)[0].reshape(-1, 3).mean(0)
    assert abs(red - 200) < 12 and abs(green - 40) < 12 and abs(blue - 40) < 12


def test_a_drawing_for_another_program_under_the_name_of_an_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(drawing, format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: Image.new("RGB", (8, 8)).im)  # as if installed
    with pytest.raises(DataError, match=r"a\.png: damaged, or not an image"):
        read_images([drawing], 8)


def test_images_are_found_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    wanted = [picture(tmp_path / name) for name in ("a/1.png", "a/2.JPG", "b.webp")]
    for hidden in (".b.png", ".cache/c.png", "a/.DS_Store.png"):
        picture(tmp_path / hidden)
    for name in ("notes.txt", "more.TXT", "README", ".hidden"):
        (tmp_path / "a" / name).write_text("x")
    os.symlink(tmp_path, tmp_path / "a" / "loop", target_is_directory=True)
    assert find_images(tmp_path) == (wanted, {".txt": 2, "without ending": 1})
    assert find_images(wanted[0]) == (wanted[:1], {})


def test_a_folder_without_images_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image in this folder .*\.jpg.*reads\)$"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        find_images(tmp_path / "none")
    (tmp_path / "scan.dcm").write_text("x")
    with pytest.raises(DataError, match=r"no image in this folder .*, but 1 \.dcm$"):
        find_images(tmp_path)


def test_who_predicts_for_a_folder_is_told_what_was_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name in ("1.dcm", "2.dcm", "x.txt"):
        (tmp_path / name).write_text("x")
    with pytest.warns(DataWarning, match=r"passed over, .*: 2 \.dcm, 1 \.txt"):
        assert len(as_array(tmp_path, 8)) == 1


def test_photos_of_telephones_name_the_extra_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_names, "endings", lambda: endings() - {".heic"})
    assert "1 .heic, 1 .txt (pip install 'secfpp[heif]'" in image_names.counted({".heic": 1, ".txt": 1})
    assert "heif" not in image_names.counted({".txt": 1})


def test_without_the_extra_they_are_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_names, "find_spec", lambda name: None)
    registered = {".heic": "HEIF", ".png": "PNG"}
    monkeypatch.setattr(Image, "OPEN", {"PNG": Image.OPEN["PNG"]})
    monkeypatch.setattr(Image, "registered_extensions", lambda: registered)
    for cached in (image_names.formats, image_names.endings):
        cached.cache_clear()
    try:
        assert not is_image_name("a.heic") and is_image_name("a.png")
    finally:
        for cached in (image_names.formats, image_names.endings):
            cached.cache_clear()


def test_an_animation_and_several_pages_give_the_first_picture(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert read_images([tmp_path / "a.tif"], 8).max() == 10
