"""Plugins on another device than the processor: a GPU where there is one, else a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from avbench.testing.elsewhere import NAME, DevicesMixed, standing_in
from avbench.testing.registry import Failure, NotChecked

_ADVICE = "Make tensors on context.device, and call cpu() before numpy()."
#: What another device may change in float64, as a share of the largest value.
ROUNDING = 1e-6


def another_device() -> str:
    """``"cuda"`` where there is a GPU, else the stand-in."""
    return "cuda" if torch.cuda.is_available() else NAME


def described(device: str) -> str:
    """It in words, for a note."""
    return torch.cuda.get_device_name() if device == "cuda" else "no GPU here: on a stand-in"


def words(device: str | torch.device) -> str:
    """It in words, for a sentence."""
    kind = torch.device(device).type
    return {NAME: "the stand-in for a GPU", "cuda": "the GPU", "cpu": "the processor"}.get(kind, kind)


@contextmanager
def mixing_told(device: str, advice: str = _ADVICE) -> Iterator[None]:
    """Around a plugin at work on a device: what it mixes there fails its check.

    Raises:
        Failure: devices were mixed.
        NotChecked: it needs what the stand-in lacks, or works on the processor no better.
    """
    try:
        with standing_in() if device == NAME else nullcontext():
            yield
    except (Failure, NotChecked):
        raise
    except (Exception, SystemExit) as error:
        if device == "cpu":
            raise NotChecked(f"it raises on the processor, too: {type(error).__name__}: {error}") from error
        mixed = _cause(error)
        if mixed is not None or device == "cuda":
            raise Failure("it to work on another device", f"{mixed or error}", advice) from error
        raise NotChecked(f"no GPU here, and its stand-in can't do all: {type(error).__name__}: {error}") from error


def _cause(error: BaseException | None) -> DevicesMixed | None:
    while error is not None and not isinstance(error, DevicesMixed):
        error = error.__cause__ or error.__context__
    return error


def need_agreement(what: str, here: Tensor, other: Tensor, there: str) -> None:
    """Raise :class:`Failure` where a tensor in float64 is not to rounding what it is on the processor."""
    expected, other = f"the same {what} on {words(there)} as on the processor", other.detach().cpu()
    advice = "What is computed must not depend on the device; draw from context.streams."
    if here.shape != other.shape:
        raise Failure(expected, f"{tuple(other.shape)} for {tuple(here.shape)}", advice)
    here, other = here.detach().double(), other.double()
    if not torch.equal(here.isfinite(), other.isfinite()):
        raise Failure(expected, "values that are finite on one of them alone", advice)
    here, other = here.nan_to_num(), other.nan_to_num()
    far = float((here - other).abs().max()) if here.numel() else 0.0
    if far > ROUNDING * max(1.0, float(here.abs().max()) if here.numel() else 1.0):
        raise Failure(expected, f"values up to {far:.3g} apart in float64", advice)
