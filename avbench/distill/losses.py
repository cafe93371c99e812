"""The matching losses of AVDD on class mean embeddings; DM is the base loss alone.

Every loss is a sum of squares over the D embedding dimensions, one number a class. R is real, S synthetic;
R̄a is ``real["a"]``, and so on, each (C, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Means = Mapping[str, Tensor]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; the defaults are plain DM."""

    base: float = 1.0
    icm: float = 0.0
    cgm: float = 0.0
    scmm: float = 0.0
    rscmm: float = 0.0

    @property
    def cross_modal(self) -> bool:
        """Whether any loss needs both modalities."""
        return any((self.icm, self.cgm, self.scmm, self.rscmm))


def _square(x: Tensor) -> Tensor:
    return x.square().sum(dim=1)


def base_loss(real: Means, synthetic: Means) -> Tensor:
    """‖R̄a − S̄a‖² + ‖R̄v − S̄v‖², or one of them (AVDD Eqs. 1 to 3; DM, arXiv:2110.04181 Eq. 4): (C,)."""
    terms = [_square(real[name] - synthetic[name]) for name in synthetic]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def icm_loss(real: Means, synthetic: Means) -> Tensor:
    """Implicit cross-matching ‖(R̄a + R̄v) − (S̄a + S̄v)‖² (AVDD Eqs. 4 to 6): (C,)."""
    return _square((real["a"] + real["v"]) - (synthetic["a"] + synthetic["v"]))


def cgm_loss(real: Means, synthetic: Means) -> Tensor:
    """Cross-modal gap matching ‖(R̄a + S̄v) − (R̄v + S̄a)‖² (AVDD Eqs. 7 to 9): (C,)."""
    return _square((real["a"] + synthetic["v"]) - (real["v"] + synthetic["a"]))


def scmm_loss(synthetic: Means) -> Tensor:
    """Synthetic cross-modal matching ‖S̄a − S̄v‖² (AVDD Eq. 11): (C,)."""
    return _square(synthetic["a"] - synthetic["v"])


def rscmm_loss(real: Means, synthetic: Means) -> Tensor:
    """Real-synthetic cross-modal matching ‖R̄a − S̄v‖² + ‖R̄v − S̄a‖² (AVDD Eqs. 12 to 14): (C,)."""
    return _square(real["a"] - synthetic["v"]) + _square(real["v"] - synthetic["a"])


def weighted_loss(real: Means, synthetic: Means, weights: LossWeights) -> Tensor:
    """The final loss (AVDD Eq. 10 with the ablations of Eq. 15): (C,). A loss of weight 0 is not computed."""
    total = weights.base * base_loss(real, synthetic)
    if weights.icm:
        total = total + weights.icm * icm_loss(real, synthetic)
    if weights.cgm:
        total = total + weights.cgm * cgm_loss(real, synthetic)
    if weights.scmm:
        total = total + weights.scmm * scmm_loss(synthetic)
    if weights.rscmm:
        total = total + weights.rscmm * rscmm_loss(real, synthetic)
    return total
