"""DSA: dataset condensation with differentiable Siamese augmentation (Zhao & Bilen, ICML 2021, arXiv:2102.08259).

DC whose gradients are taken under one augmentation A_ω of the real and the synthetic samples of a class (Eq. 3),
whose network trains on augmented items, and whose items start from real samples. The step is DC's: see ``dc.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avbench.api import option
from avbench_methods.dc import DatasetCondensation, DCConfig


@dataclass(frozen=True)
class DSAConfig(DCConfig):
    """Options of ``dsa``; the defaults are those of DSA's code, which draws ω for each class and outer step."""

    init: Literal["noise", "random", "herding"] = option("random", "what the items start from")
    augment: str = option("color_crop_cutout_flip_scale_rotate", "Siamese ops, one drawn at a time; or none")


class SiameseCondensation(DatasetCondensation):
    """Match gradients under a Siamese augmentation (DSA)."""

    Config = DSAConfig
    config: DSAConfig
