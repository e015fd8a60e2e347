"""The student: dense 3 x 3 convolutions in residual blocks.

Dense, not depthwise: on a CPU a dense convolution runs near the machine's peak, forwards and backwards, where depthwise
ones wait for memory.  By default 2.2 million parameters and 132 million multiply-adds at 128 px.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = 127.5, 64.0  # of the input, in 0..255 units, every channel
WIDTHS = (32, 64, 128, 256)  # channels of the four stages; each but the first halves the sides
FEATURES = 768


def convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, rectify: bool = True
) -> nn.Sequential:
    """A convolution without bias, its batch norm and, unless told otherwise, a ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if rectify else []))


class Block(nn.Module):
    """Two convolutions and a way around them; with stride 2 that way is an average of four pixels."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(channels_in, channels_out, 3, stride)
        self.second = convolution(channels_out, channels_out, 3, rectify=False)
        around: list[nn.Module] = [nn.AvgPool2d(2, ceil_mode=True)] if stride == 2 else []
        if channels_in != channels_out:
            around.append(convolution(channels_in, channels_out, 1, rectify=False))
        self.around = nn.Sequential(*around)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.around(x))


class Student(nn.Module):
    """float32[B, 3, S, S], normalized -> (embedding float32[B, D], not unit length; features float32[B, 768])."""

    def __init__(self, dimension: int, labels: int, depths: tuple[int, ...] = (1, 2, 3, 1)) -> None:
        super().__init__()
        self.depths = depths
        layers: list[nn.Module] = [convolution(3, 24, 3, 2), convolution(24, WIDTHS[0], 3, 2)]
        channels = WIDTHS[0]
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            for block in range(depth):
                layers.append(Block(channels, width, 2 if stage and not block else 1))
                channels = width
        self.body = nn.Sequential(*layers, convolution(channels, FEATURES, 1))
        self.embedding = nn.Linear(FEATURES, dimension)
        self.labels = nn.Linear(FEATURES, labels)

    def features(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.body(x).mean((2, 3))
        return pooled

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return self.embedding(features), features

    def matrices(self) -> list[nn.Parameter]:
        """What Muon moves: every convolution but the first, and the embedding."""
        first = next(self.body.parameters())
        return [p for p in (*self.body.parameters(), *self.embedding.parameters()) if p.ndim > 1 and p is not first]
