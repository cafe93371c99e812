"""Any backbone of timm: ``timm/<name>``, such as ``timm/convnext_atto``, without pretrained weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from avbench.data.store import StoreInfo
from avbench.errors import RequestError, nearest
from avbench.nets.base import Architecture, Encoder
from avbench.options import option


@dataclass(frozen=True)
class TimmConfig:
    """Options of ``timm``."""

    model: str = option("", "timm's name of the backbone; timm/NAME says the same")

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("which backbone? write timm/NAME, such as timm/convnext_atto")
        if self.model not in _known():
            raise ValueError(f"timm {timm.__version__} has no backbone {self.model!r}; {nearest(self.model, _known())}")


@cache
def _known() -> frozenset[str]:
    return frozenset(timm.list_models())


class TimmEncoder(Encoder):
    """A timm backbone with its own pooling and without its classifier."""

    def __init__(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        self.per_sample = not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        model.eval()
        with torch.no_grad():
            out = model(torch.zeros(1, *shape))
        model.train()
        if out.ndim != 2:
            raise ValueError(f"it gives {tuple(out.shape)} without its classifier, not one vector a sample")
        self.embedding_dim = self.channels = int(out.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x)  # (B, D)
        return found


class TimmArchitecture(Architecture):
    """Any timm backbone that accepts the input size: timm/NAME."""

    Config = TimmConfig
    config: TimmConfig
    family = "model"

    def build(self, dataset: StoreInfo, modality: str) -> TimmEncoder:
        # Several backbones compute numbers while they are built, which a device without memory can't.
        with torch.device("cpu"):
            return self._create(dataset.shape(modality), f"{modality!r} of {dataset.name}")

    def _create(self, shape: tuple[int, int, int], what: str) -> TimmEncoder:
        reasons = []
        # Backbones with position embeddings must be told the size; others do not know the option.
        sized: tuple[dict[str, Any], ...] = ({}, {"img_size": shape[1:]})
        for extra in sized:
            try:
                with torch.random.fork_rng(devices=[]):
                    model = timm.create_model(
                        self.config.model, pretrained=False, in_chans=shape[0], num_classes=0, **extra
                    )
                    return TimmEncoder(model, shape)
            except Exception as error:  # each of timm's thousand backbones refuses in its own way
                reasons.append(re.sub(r"\s+", " ", f"{error}")[:200])
        raise RequestError(
            f"timm/{self.config.model} does not accept an input of {shape}, {what}: {reasons[0]}; "
            "choose another backbone, or prepare the dataset at another size."
        )

    def draw(self, encoder: Encoder, rng: np.random.Generator) -> None:
        """As timm initialises it: made anew under a generator seeded from our stream."""
        assert isinstance(encoder, TimmEncoder)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(int(rng.integers(2**63)))
            fresh: Any = self._fresh(encoder.shape)
        encoder.load_state_dict(fresh.state_dict())

    def _fresh(self, shape: tuple[int, int, int]) -> TimmEncoder:
        """A newly initialised one. ``_create`` forks the generator anew, from the state that it finds."""
        return self._create(shape, "an input")
