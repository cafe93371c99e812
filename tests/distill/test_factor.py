"""The factor technique: packing mini-examples and cutting them out again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from avbench.distill.factor import check_fits, decode, decode_rows, pack
from avbench.errors import RequestError

sizes = st.tuples(st.integers(3, 40), st.integers(3, 40))
factors = st.integers(1, 3)


@settings(max_examples=60, deadline=None)
@given(factors, sizes, st.integers(1, 3), st.integers(1, 3))
def test_constant_samples_come_back_exactly(factor: int, size: tuple, items: int, channels: int) -> None:
    count = items * factor**2
    values = torch.arange(count, dtype=torch.float64) - 1.5
    samples = values.view(-1, 1, 1, 1).expand(count, channels, *size)
    packed = pack(samples, factor)
    assert packed.shape == (items, channels, *size)
    back = decode(packed, factor)
    assert back.shape == samples.shape
    for item in range(items):
        for q in range(factor**2):  # sample q·n + i is cell q of item i
            found = back[item * factor**2 + q]
            torch.testing.assert_close(found, samples[q * items + item], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("size", "tolerance"), [((32, 56), 0.12), ((28, 28), 0.15), ((224, 224), 0.02)])
@pytest.mark.parametrize("factor", [2, 3])
def test_smooth_samples_come_back_nearly(size: tuple[int, int], tolerance: float, factor: int) -> None:
    y = torch.linspace(0, 1, size[0], dtype=torch.float64)[:, None]
    x = torch.linspace(0, 1, size[1], dtype=torch.float64)[None, :]
    samples = torch.stack([torch.sin(3 * y + q) * torch.cos(2 * x - q) for q in range(factor**2)])[:, None]
    back = decode(pack(samples, factor), factor)
    assert float((back - samples).abs().max()) < tolerance
    assert float((back - samples.roll(1, 0)).abs().max()) > 0.5  # each in its place, not merely alike


def test_cells_run_down_the_columns() -> None:
    packed = pack(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 6, 8), 2)[0, 0]
    assert (packed[:3, :4] == 0).all(), "top left"
    assert (packed[3:, :4] == 1).all(), "bottom left"
    assert (packed[:3, 4:] == 2).all(), "top right"
    assert (packed[3:, 4:] == 3).all(), "bottom right"


@pytest.mark.parametrize("size", [(32, 56), (28, 28), (7, 10), (3, 3), (128, 56), (224, 224)])
def test_three_cells_a_side_where_three_does_not_divide(size: tuple[int, int]) -> None:
    packed = pack(torch.arange(9.0).view(9, 1, 1, 1).expand(9, 1, *size), 3)[0, 0].round()
    for axis, extent in enumerate(size):
        lengths = [int((packed.select(1 - axis, 0) == cell).sum()) for cell in ((0, 1, 2), (0, 3, 6))[axis]]
        assert sum(lengths) == extent and max(lengths) - min(lengths) <= 1
    assert [float(v) for v in packed[:, 0].unique()] == [0, 1, 2]
    assert [float(v) for v in packed[0].unique()] == [0, 3, 6]


@settings(max_examples=60, deadline=None)
@given(factors, sizes)
def test_the_gradient_reaches_every_pixel(factor: int, size: tuple[int, int]) -> None:
    item = torch.zeros(1, 1, *size, requires_grad=True)
    decode(item, factor).sum().backward()
    assert (item.grad > 0).all()
    torch.testing.assert_close(float(item.grad.sum()), float(factor**2 * size[0] * size[1]), rtol=1e-4, atol=0)


def test_decoding_is_cutting_and_bilinear_enlarging() -> None:
    item = torch.randn(1, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = decode(item, 2)
    cells = [item[..., :4, :6], item[..., 4:, :6], item[..., :4, 6:], item[..., 4:, 6:]]
    for sample, cell in zip(found, cells, strict=True):
        enlarged = F.interpolate(cell, (8, 12), mode="bilinear", align_corners=False)
        torch.testing.assert_close(sample, enlarged[0], rtol=0, atol=0)


def test_factor_one_changes_nothing_and_packs_a_copy() -> None:
    samples = torch.randn(2, 1, 4, 4)
    packed = pack(samples, 1)
    assert torch.equal(packed, samples) and packed.data_ptr() != samples.data_ptr()
    assert decode(packed, 1) is packed


@pytest.mark.parametrize("factor", [0, -1, 5])
def test_a_factor_that_leaves_cells_without_pixels_is_refused(factor: int) -> None:
    with pytest.raises(RequestError, match=f"factor = {factor}.*1 to 4 cells"):
        check_fits(factor, (3, 4, 9))


def test_a_factor_that_fits_is_accepted() -> None:
    for factor in (1, 2, 3, 4):
        check_fits(factor, (3, 4, 9))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_some_rows_decode_to_the_bits_that_all_decode_to(factor: int) -> None:
    items = torch.randn(5, 2, 20, 13, generator=torch.Generator().manual_seed(0))
    whole = decode(items, factor)
    rows = torch.tensor([0, 4, len(whole) - 1, 2, 4])
    assert torch.equal(decode_rows(items, factor, rows), whole[rows])
