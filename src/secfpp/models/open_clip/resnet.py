"""The ResNet image tower of OpenAI's RN50 to RN50x64 (Radford et al., arXiv 2103.00020, section 2.4).

A ResNet-D (He et al., arXiv 1812.01187) with three convolutions in its stem, with every stride taken by averaging
(Zhang, arXiv 1904.11486), and with attention at its end: the mean of all places asks, all places answer. Names of
weights are those of the published checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secfpp.models.open_clip.architecture import ResNet

EXPANSION = 4
REDUCTION = 32
"""Pixels on each side that one place of the last feature map stands for."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut; where `stride` is above 1, both are averaged before their last one."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1, self.bn1 = _convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width, 3), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _convolution(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != outputs:
            parts: OrderedDict[str, nn.Module] = OrderedDict(
                [("0", _convolution(inputs, outputs, 1)), ("1", nn.BatchNorm2d(outputs))]
            )
            self.downsample = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] -> [n, 4 width, h / stride, w / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self._average(out)))
        shortcut = x if self.downsample is None else self.downsample(self._average(x))
        return F.relu(out + shortcut)

    def _average(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride) if self.stride > 1 else x


class AttentionPool(nn.Module):
    """Attention among all places and their mean, each with its position, projected."""

    def __init__(self, side: int, width: int, heads: int, projection: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(side * side + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, projection)

    def forward(self, x: Tensor, asking: slice) -> Tensor:
        """[n, width, side, side] -> [n, places, projection], of the places `asking`; the mean comes first."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding
        query, key, value = (self._split(part) for part in (self.q_proj(x[:, asking]), self.k_proj(x), self.v_proj(x)))
        seen = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.c_proj(seen.transpose(1, 2).flatten(2))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        """[n, places, width] -> [n, heads, places, width / heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class ModifiedResNet(nn.Module):
    """The tower; made with untrained weights, which ``load_state_dict`` replaces."""

    def __init__(self, shape: ResNet, image_size: int, projection: int) -> None:
        super().__init__()
        half = shape.width // 2
        self.conv1, self.bn1 = _convolution(3, half, 3, stride=2), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = _convolution(half, half, 3), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _convolution(half, shape.width, 3), nn.BatchNorm2d(shape.width)
        inputs = shape.width
        for stage, blocks in enumerate(shape.stages):
            width, stride = shape.width << stage, 2 if stage else 1
            first, inputs = Bottleneck(inputs, width, stride), width * EXPANSION
            rest = [Bottleneck(inputs, width, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, *rest))
        self.stages = len(shape.stages)
        self.attnpool = AttentionPool(image_size // REDUCTION, inputs, shape.heads, projection)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, size, size] -> the feature of the whole image [n, projection]."""
        pooled: Tensor = self.attnpool(self._map(pixels), slice(0, 1))[:, 0]
        return pooled

    def patches(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, size, size] -> features of each place of 32 by 32 pixels [n, places, projection]."""
        places: Tensor = self.attnpool(self._map(pixels), slice(1, None))
        return places

    def _map(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(convolution(x)))
        x = F.avg_pool2d(x, 2)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x
