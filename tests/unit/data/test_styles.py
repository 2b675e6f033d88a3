import numpy as np
import pytest
import torch

from secfpp.data.glyphs import Glyph, rasterise
from secfpp.data.styles import DOMAINS, GENERIC, SIDE, STYLES, Draw, blur, edge, grow, hsv, render
from secfpp.seeding import Seed


@pytest.fixture(scope="module")
def masks():
    return rasterise([Glyph("ph", "house-fill"), Glyph("ri", "umbrella-line"), Glyph("ei", "plane")] * 8)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_visible_different_repeatable_pictures(style, masks):
    images = render(masks, style, Seed(5))
    assert images.shape == (24, SIDE, SIDE, 3) and images.dtype == np.uint8
    assert np.array_equal(images, render(masks, style, Seed(5)))
    assert not np.array_equal(images, render(masks, style, Seed(6)))
    blank = render(np.zeros_like(masks), style, Seed(5))
    assert (np.abs(images.astype(int) - blank).max((1, 2, 3)) > 40).all()  # the drawing shows
    assert len({image.tobytes() for image in images}) == 24


def test_domains_and_generic_styles_are_apart():
    assert not set(DOMAINS) & set(GENERIC) and len(DOMAINS) == 6


def test_domains_look_different(masks):
    means = {style: render(masks, style, Seed(1)).mean((0, 1, 2)) for style in ("sketch", "chalk")}
    assert means["sketch"].mean() > means["chalk"].mean() + 50


def test_rendering_in_parts_of_512_is_deterministic():
    many = np.repeat(rasterise([Glyph("ph", "house")]), 600, 0)
    assert np.array_equal(render(many, "pixel", Seed(0)), render(many, "pixel", Seed(0)))


def test_hsv_corner_colours():
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert hsv(zero, one, one).tolist() == [[1, 0, 0]]
    assert torch.allclose(hsv(one / 3, one, one), torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-5)
    assert hsv(zero, zero, one).tolist() == [[1, 1, 1]]


def test_morphology_and_blur():
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 4, 4] = 1
    assert grow(dot).sum() == 9
    assert edge(grow(dot, 5)).sum() == 49 - 9
    assert torch.isclose(blur(dot).sum(), torch.tensor(1.0)) and blur(dot).max() < 0.2


def test_draws_stay_in_range():
    draw = Draw(100, torch.Generator().manual_seed(0))
    values = draw.uniform(2, 3)
    assert values.shape == (100, 1, 1, 1) and values.min() >= 2 and values.max() <= 3
    assert draw.noise(2, 4).shape == (100, 2, SIDE, SIDE)
    assert draw.colour().shape == (100, 3, 1, 1)


@pytest.mark.parametrize("style", DOMAINS)
def test_strength_leads_from_the_style_to_the_one_that_all_share(style, masks):
    full, none = render(masks, style, Seed(5)), render(masks, style, Seed(5), strength=0.0)
    assert np.array_equal(full, render(masks, style, Seed(5), strength=1.0))
    assert not np.array_equal(full, render(masks, style, Seed(5), strength=0.9))
    corners = none[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # dark on light, whatever the style
    assert corners.min() > 150 and (none.min((1, 2, 3)) < 110).all()


def test_at_strength_zero_drawings_are_moved_alike():
    def box(style):
        ink = render(np.full((200, 64, 64), 255, np.uint8), style, Seed(2), strength=0.0).max(3) < 130
        return ink.mean((1, 2)).mean()

    assert max(map(box, DOMAINS)) - min(map(box, DOMAINS)) < 0.03
