"""What --precision lowers, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

from avbench.precision import dtype_name, lowered, use_exact_products


def test_bfloat16_lowers_products_and_leaves_what_is_held() -> None:
    layer = torch.nn.Linear(8, 8)
    x = torch.randn(4, 8, requires_grad=True)
    with lowered("bfloat16", "cpu"):
        y = layer(x)
    (gradient,) = torch.autograd.grad(y.float().sum(), x)
    assert (y.dtype, gradient.dtype, layer.weight.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    with lowered("float32", "cpu"):
        assert layer(x).dtype == torch.float32


def test_tf32_is_allowed_within_its_steps_alone() -> None:
    def allowed() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = allowed()
    try:
        use_exact_products()
        assert allowed() == (False, False)
        with pytest.raises(ZeroDivisionError), lowered("tf32", "cpu"):
            assert allowed() == (True, True)
            raise ZeroDivisionError
        assert allowed() == (False, False)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_what_is_held_is_float32_unless_float64_was_asked_for() -> None:
    assert [dtype_name(name) for name in ("float32", "bfloat16", "tf32", "float64")] == ["float32"] * 3 + ["float64"]
