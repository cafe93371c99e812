"""The precision in which a method's steps compute: an option that is recorded and keyed.

Items, means, gradients, optimisers and all that is judged are float32 (float64 under ``float64``). ``bfloat16`` and
``tf32`` lower what networks multiply while a set is distilled, and nothing else: prerequisites and evaluations compute
in float32, so that sets of every precision are judged alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

Precision = Literal["float32", "float64", "bfloat16", "tf32"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def dtype_name(precision: str) -> str:
    """The dtype of items and of all that is held: ``"float64"`` or ``"float32"``."""
    return "float64" if precision == "float64" else "float32"


def use_exact_products() -> None:
    """Multiply float32 as float32 from now on: by default PyTorch convolves in TF32 on a GPU."""
    _allow_tf32(False)


@contextlib.contextmanager
def lowered(precision: str, device_type: str) -> Iterator[None]:
    """Within: convolutions and matrix products in bfloat16 or TF32, where ``precision`` says so.

    Args:
        device_type: ``"cpu"`` or ``"cuda"``; a CPU has no TF32 and computes in float32 then.
    """
    import torch

    if precision == "bfloat16":
        with torch.autocast(device_type, torch.bfloat16):
            yield
    elif precision == "tf32":
        _allow_tf32(True)
        try:
            yield
        finally:
            _allow_tf32(False)
    else:
        yield


def _allow_tf32(allowed: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
