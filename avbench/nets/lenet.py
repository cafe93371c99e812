"""LeNet: LeCun et al. 1998, with ReLU and max pooling as the field's cross-architecture tests use it."""

from __future__ import annotations

from torch import nn

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.nets.base import Architecture
from avbench.nets.layers import Stacked

_SMALLEST = 12
_WIDTHS = (6, 16, 120, 84)


class LeNetArchitecture(Architecture):
    """LeNet: two convolutions and two hidden layers; its first hidden layer grows with the input."""

    def build(self, dataset: StoreInfo, modality: str) -> Stacked:
        channels, height, width = dataset.shape(modality)
        if min(height, width) < _SMALLEST:
            raise RequestError(
                f"lenet needs at least {_SMALLEST} × {_SMALLEST}; {modality!r} of {dataset.name} is {height} × {width}."
            )
        first, second, hidden, out = _WIDTHS
        rows, columns = ((side // 2 - 4) // 2 for side in (height, width))
        layers = nn.Sequential(
            nn.Conv2d(channels, first, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 6, H/2, W/2)
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 16, (H/2 − 4)/2, (W/2 − 4)/2)
            nn.Flatten(),
            nn.Linear(second * rows * columns, hidden),
            nn.ReLU(),
            nn.Linear(hidden, out),
            nn.ReLU(),  # (B, 84)
        )
        return Stacked(layers, out, out)
