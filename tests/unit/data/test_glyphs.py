import numpy as np
import pytest

from secfpp.data import glyphs
from secfpp.data.glyphs import RASTER, Glyph, all_glyphs, concept_glyphs, concepts, rasterise, signatures
from secfpp.errors import DataError


def test_six_designers_with_thousands_of_glyphs():
    assert {g.designer for g in all_glyphs()} == {"mdi", "fa", "ph", "ri", "ei", "msc"}
    assert len(all_glyphs()) > 15_000
    assert list(all_glyphs()) == sorted(set(all_glyphs()))


@pytest.mark.parametrize(
    ("glyph", "base"),
    [
        (Glyph("ph", "house-bold"), "house"),
        (Glyph("ph", "house"), "house"),
        (Glyph("ri", "home-2-line"), "home-2"),
        (Glyph("mdi6", "home-outline"), "home"),
        (Glyph("fa5s", "outline-bold"), "outline-bold"),
    ],
)
def test_base_name_drops_the_variant(glyph, base):
    assert glyph.base == base


def test_raster_is_centred_and_fills_the_square():
    mask = rasterise([Glyph("ph", "house")])[0]
    rows, columns = np.flatnonzero(mask.max(1)), np.flatnonzero(mask.max(0))
    assert mask.shape == (RASTER, RASTER) and mask.dtype == np.uint8
    assert max(np.ptp(rows), np.ptp(columns)) >= 57
    assert abs((rows[0] + rows[-1]) - (RASTER - 1)) <= 1
    assert abs((columns[0] + columns[-1]) - (RASTER - 1)) <= 1


def test_signatures_are_correlations():
    masks = rasterise([Glyph("ph", "house"), Glyph("ph", "house-light"), Glyph("ph", "umbrella")])
    unit = signatures(masks)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    halves = masks.reshape(3, 32, 2, 32, 2).mean((2, 4)).reshape(3, -1)
    assert np.allclose(unit @ unit.T, np.corrcoef(halves), atol=1e-5)
    assert signatures(np.zeros((1, RASTER, RASTER), np.uint8)).max() == 0


def test_concepts_are_drawn_by_several_designers():
    drawn = {glyph.designer for glyph in concept_glyphs("camera")}
    assert {"mdi", "fa", "ph", "ri"} <= drawn
    assert all("camera" in g.name for g in concept_glyphs("camera") if g.designer == "mdi")
    assert concepts()["gear"][0] == "gear" and "cog" in concepts()["gear"]


def test_an_unknown_glyph_and_missing_fonts_name_the_remedy(monkeypatch):
    with pytest.raises(DataError, match=r"ph/no-such-thing.*pip install"):
        rasterise([Glyph("ph", "no-such-thing")])
    monkeypatch.setattr(glyphs, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install QtAwesome"):
        glyphs.font_folder()


def test_rasterising_nothing_gives_no_rasters():
    assert rasterise([]).shape == (0, RASTER, RASTER)
