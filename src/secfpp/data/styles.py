"""Picture styles: functions that turn glyph masks into 48 x 48 colour images, in batches.

A style takes masks float [n, 1, 64, 64] in 0..1 and a `Draw` (the only source of randomness) and
returns images [n, 3, 48, 48], clamped to 0..1 by `render`. Below full strength a style's drawing is moved as that
of the `icon` style, and its picture mixed with that style's of the same drawing; at strength 0 all styles are one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.seeding import Seed

SIDE = 48
"""Side of a rendered image in pixels."""

Range = tuple[float, float]


class Draw:
    """Random numbers for a batch of `n` images, from one seeded generator, on its device.

    At a `strength` below 1 drawings are warped less like the style asks and more like the `icon` style.
    """

    def __init__(self, n: int, generator: torch.Generator, strength: float = 1.0) -> None:
        self.n, self.generator, self.strength = n, generator, strength
        self.drawing: Tensor | None = None  # as warped last

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers [n, *shape], by default [n, 1, 1, 1]."""
        return low + (high - low) * torch.rand(
            self.n, *(shape or (1, 1, 1)), generator=self.generator, device=self.generator.device
        )

    def colour(self, saturation: Range = (0, 1), value: Range = (0, 1)) -> Tensor:
        """A random hue per image [n, 3, 1, 1]."""
        return hsv(self.uniform(0, 1), self.uniform(*saturation), self.uniform(*value))

    def noise(self, channels: int, cells: int, side: int = SIDE) -> Tensor:
        """Smooth noise [n, channels, side, side] with `cells` knots a side, around 0..1."""
        knots = self.uniform(0, 1, channels, cells, cells)
        return F.interpolate(knots, size=(side, side), mode="bicubic", align_corners=False)

    def axes(self) -> tuple[Tensor, Tensor]:
        """Coordinates y and x of the pixels, each [SIDE, SIDE] in -1..1."""
        line = torch.linspace(-1, 1, SIDE, device=self.generator.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        return y, x

    def warp(
        self,
        masks: Tensor,
        *,
        rotate: float = 8.0,
        size: Range = (0.78, 1.0),
        shift: float = 0.07,
        ripple: float = 0.0,
        knots: int = 5,
        tilt: float = 0.0,
    ) -> Tensor:
        """Masks [n, 1, SIDE, SIDE] rotated (degrees), scaled, shifted, rippled and tilted at random."""
        rotate, ripple, shift = self._damped(8.0, rotate), self._damped(0.0, ripple), self._damped(0.07, shift)
        size = self._damped(0.78, size[0]), self._damped(1.0, size[1])
        angle = self.uniform(-1, 1, 1, 1) * rotate * math.pi / 180
        scale, aspect = 1 / self.uniform(*size, 1, 1), torch.exp(0.08 * self.uniform(-1, 1, 1, 1))
        centre = self.uniform(-1, 1, 2) * shift
        y, x = self.axes()
        x, y = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
        grid_x = (torch.cos(angle) * x + torch.sin(angle) * y) * scale * aspect
        grid_y = (torch.cos(angle) * y - torch.sin(angle) * x) * scale / aspect
        if tilt:
            slope = self.uniform(-1, 1, 2) * tilt
            depth = 1 + slope[:, 0, None, None] * x + slope[:, 1, None, None] * y
            grid_x, grid_y = grid_x / depth, grid_y / depth
        grid = torch.stack([grid_x, grid_y], -1)
        if ripple:
            grid = grid + (self.noise(2, knots).permute(0, 2, 3, 1) - 0.5) * ripple
        self.drawing = F.grid_sample(masks, grid, align_corners=False)
        return self.drawing

    def _damped(self, usual: float, asked: float) -> float:
        return asked if self.strength == 1 else usual + self.strength * (asked - usual)


def hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB [n, 3, ...] of HSV parts [n, 1, ...] in 0..1 (the standard one-formula conversion)."""

    def channel(offset: int) -> Tensor:
        sector = (offset + hue * 6) % 6
        return value - value * saturation * torch.minimum(sector, 4 - sector).clamp(0, 1)

    return torch.cat([channel(5), channel(3), channel(1)], 1)


def grow(mask: Tensor, width: int = 3) -> Tensor:
    """Dilation by a square of `width` pixels."""
    return F.max_pool2d(mask, width, 1, width // 2)


def edge(mask: Tensor, width: int = 3) -> Tensor:
    """The outline: dilation minus erosion."""
    return (grow(mask, width) + F.max_pool2d(-mask, width, 1, width // 2)).clamp(0, 1)


def blur(image: Tensor, times: int = 1) -> Tensor:
    """Binomial 5 x 5 blur, applied `times` times."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image.device)
    channels = image.shape[1]
    kernel = (torch.outer(row, row) / 256).expand(channels, 1, 5, 5)
    for _ in range(times):
        image = F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)
    return image


def over(mask: Tensor, front: Tensor, back: Tensor) -> Tensor:
    """Paint `front` over `back` where `mask` is 1."""
    return back + mask * (front - back)


def icon(masks: Tensor, draw: Draw) -> Tensor:
    """Dark drawing on a light ground."""
    return inked(draw.warp(masks), draw)


def inked(drawing: Tensor, draw: Draw) -> Tensor:
    """A warped drawing in the `icon` style."""
    return over(drawing, draw.colour((0, 0.6), (0, 0.35)), draw.colour((0, 0.15), (0.85, 1)))


def inverted(masks: Tensor, draw: Draw) -> Tensor:
    """Light drawing on a dark ground."""
    return over(draw.warp(masks), draw.colour((0, 0.15), (0.85, 1)), draw.colour((0, 0.9), (0, 0.45)))


def outline(masks: Tensor, draw: Draw) -> Tensor:
    """Only the drawing's contour."""
    return over(edge(draw.warp(masks)), draw.colour((0, 0.4), (0, 0.3)), draw.colour((0, 0.1), (0.9, 1)))


def badge(masks: Tensor, draw: Draw) -> Tensor:
    """Small light drawing on a coloured disc."""
    drawing = draw.warp(masks, size=(0.5, 0.65), shift=0.05)
    y, x = draw.axes()
    disc = ((x**2 + y**2).sqrt() < draw.uniform(0.85, 0.97)).float()
    ground = over(disc, draw.colour((0.5, 1), (0.4, 0.9)), draw.uniform(0.9, 1, 3, 1, 1))
    return over(drawing, draw.colour((0, 0.2), (0.85, 1)), ground)


def photo(masks: Tensor, draw: Draw) -> Tensor:
    """Tilted, shaded, blurred, with a shadow and sensor noise."""
    drawing = draw.warp(masks, rotate=15, tilt=0.25, ripple=0.05)
    shadow = blur(F.pad(drawing, (2, 0, 2, 0))[..., :SIDE, :SIDE], 2)
    ground = (draw.noise(3, 3) * 0.5 + draw.uniform(0, 0.5)) * (1 - 0.5 * shadow)
    front = draw.noise(3, 2) * 0.4 + draw.colour((0, 1), (0, 0.7))
    return blur(over(drawing, front, ground)) + 0.07 * draw.uniform(-1, 1, 3, SIDE, SIDE)


def clipart(masks: Tensor, draw: Draw) -> Tensor:
    """Saturated fill, dark contour, pale ground."""
    drawing = draw.warp(masks, rotate=12)
    contour = over(grow(drawing), draw.colour((0, 0.5), (0, 0.2)), draw.colour((0, 0.25), (0.9, 1)))
    return over(drawing, draw.colour((0.6, 1), (0.6, 1)), contour)


def sketch(masks: Tensor, draw: Draw) -> Tensor:
    """Two wavering pencil contours on grainy paper."""
    first, second = (edge(draw.warp(masks, rotate=6, size=(0.82, 0.98), shift=0.03, ripple=0.16)) for _ in range(2))
    stroke = torch.maximum(first, 0.7 * second) * (0.35 + 0.65 * draw.noise(1, 24)).clamp(0, 1)
    paper = draw.uniform(0.8, 1) - draw.uniform(0, 0.12, 1, SIDE, SIDE)
    return over(stroke, draw.uniform(0.1, 0.4), paper).expand(-1, 3, -1, -1)


def chalk(masks: Tensor, draw: Draw) -> Tensor:
    """Broken chalk on a mottled green board."""
    drawing = draw.warp(masks, rotate=10, ripple=0.10)
    grain = (draw.uniform(0, 1, 1, SIDE, SIDE) > draw.uniform(0.25, 0.55)).float()
    board = hsv(draw.uniform(0.3, 0.55), draw.uniform(0.2, 0.6), draw.uniform(0.12, 0.3))
    return over(
        0.9 * drawing * grain, draw.colour((0, 0.25), (0.8, 1)), board + 0.18 * draw.noise(1, 4) * draw.noise(1, 16)
    )


def painting(masks: Tensor, draw: Draw) -> Tensor:
    """Soft, strongly warped shapes in two related hues with blotches."""
    drawing = blur(draw.warp(masks, rotate=15, ripple=0.22, knots=6))
    hue = draw.uniform(0, 1)
    front = hsv(hue, draw.uniform(0.3, 0.9), draw.uniform(0.25, 0.8)) + 0.4 * (draw.noise(3, 12) - 0.5)
    ground = hsv((hue + draw.uniform(0.12, 0.5)) % 1, draw.uniform(0.2, 0.8), draw.uniform(0.25, 0.85))
    return over(drawing, front, ground + 0.5 * (draw.noise(3, 7) - 0.5))


def pixel(masks: Tensor, draw: Draw) -> Tensor:
    """A 12 x 12 sprite."""
    blocks = F.avg_pool2d(draw.warp(masks, rotate=0, size=(0.85, 1.0)), 4)
    sprite = over(
        (blocks > draw.uniform(0.3, 0.5)).float(), draw.colour((0.5, 1), (0.7, 1)), draw.colour((0.3, 1), (0.1, 0.45))
    )
    return F.interpolate(sprite + 0.06 * draw.uniform(-1, 1, 1, SIDE // 4, SIDE // 4), scale_factor=4, mode="nearest")


def infograph(masks: Tensor, draw: Draw) -> Tensor:
    """A small drawing with a halo among bars and rules of a chart."""
    drawing = draw.warp(masks, rotate=0, size=(0.48, 0.62), shift=0.38)
    page = draw.colour((0, 0.35), (0.8, 1)).expand(-1, 3, SIDE, SIDE)
    y, x = draw.axes()
    for bar in range(7):
        wide, high = ((0.05, 0.6), (0.02, 0.07)) if bar < 4 else ((0.05, 0.2), (0.1, 0.5))
        inside_x = (x - draw.uniform(-1, 1)).abs() < draw.uniform(*wide)
        inside_y = (y - draw.uniform(-1, 1)).abs() < draw.uniform(*high)
        page = over((inside_x & inside_y).float(), draw.colour((0, 1), (0.2, 0.9)), page)
    page = over(0.6 * grow(drawing, 7), torch.ones_like(page), page)
    return over(drawing, draw.colour((0.3, 1), (0.1, 0.6)), page)


Style = Callable[[Tensor, Draw], Tensor]
GENERIC: dict[str, Style] = {"icon": icon, "inverted": inverted, "outline": outline, "badge": badge, "photo": photo}
"""Styles that only pre-training uses."""
DOMAINS: dict[str, Style] = {
    "clipart": clipart,
    "sketch": sketch,
    "chalk": chalk,
    "painting": painting,
    "pixel": pixel,
    "infograph": infograph,
}
"""Styles that are the benchmark's visual domains."""
STYLES = {**GENERIC, **DOMAINS}


def render_float(masks: Tensor, style: str, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Images float [n, 3, SIDE, SIDE] in 0..1 of masks uint8 [n, 64, 64], on the generator's device."""
    batch = masks.to(generator.device).float().div_(255).unsqueeze(1)
    draw = Draw(len(masks), generator, strength)
    images = STYLES[style](batch, draw)
    if strength < 1 and draw.drawing is not None:
        images = inked(draw.drawing, draw).lerp(images, strength)
    return images.clamp(0, 1)


def render(masks: np.ndarray, style: str, seed: Seed, strength: float = 1.0) -> np.ndarray:
    """Images uint8 [n, SIDE, SIDE, 3] of masks uint8 [n, 64, 64]; the same for the same seed.

    `strength` 1 is the style, 0 the `icon` style.
    """
    generator = torch.Generator().manual_seed(seed.value)
    drawn = (render_float(part, style, generator, strength) for part in torch.from_numpy(masks).split(512))
    return torch.cat([(part.permute(0, 2, 3, 1) * 255).round().to(torch.uint8) for part in drawn]).numpy()
