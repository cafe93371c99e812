"""Siamese and per-sample augmentation against slow readings of DSA's formulas, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.distill.augment import Augmentation, Transform
from avbench.errors import RequestError

OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")
ALL = "_".join(OPS)
SHAPES = {"audio": (1, 16, 24), "grey": (1, 9, 9), "colour": (3, 12, 7)}
DRAWS = 40


def batch(shape: tuple[int, int, int], count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, *shape, dtype=dtype, generator=generator) + 2.0


def drawn(op: str, seed: int, count: int = 1) -> Transform:
    return Augmentation(op).per_sample(np.random.default_rng(seed), count)


def pixel(image: Tensor, y: float, x: float) -> float:
    """Bilinear value of (H, W) at a position in pixels; zero outside."""
    height, width = image.shape
    found = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                found += float(image[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return found


def warped(image: Tensor, theta: list[list[float]]) -> Tensor:
    """Each output pixel looks up theta · (x, y) in coordinates from −1 to 1 that span the pixels' outer edges."""
    height, width = image.shape
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = (2 * column + 1) / width - 1, (2 * row + 1) / height - 1
            sx = theta[0][0] * x + theta[0][1] * y
            sy = theta[1][0] * x + theta[1][1] * y
            out[row, column] = pixel(image, ((sy + 1) * height - 1) / 2, ((sx + 1) * width - 1) / 2)
    return out


def each_plane(x: Tensor, theta: list[list[float]]) -> Tensor:
    return torch.stack([torch.stack([warped(plane, theta) for plane in sample]) for sample in x])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_color_is_brightness_then_saturation_then_contrast(shape: tuple[int, int, int]) -> None:
    x = batch(shape)
    for seed in range(DRAWS):
        transform = drawn("color", seed)
        b, s, c = transform.units[0].tolist()
        expected = []
        for sample in x:
            bright = sample + (b - 0.5) * 1.0
            grey = sum(bright[i] for i in range(shape[0])) / shape[0]
            saturated = torch.stack([(plane - grey) * (2.0 * s) + grey for plane in bright])
            mean = saturated.sum() / saturated.numel()
            expected.append((saturated - mean) * (c + 0.5) + mean)
        torch.testing.assert_close(transform(x), torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_crop_shifts_by_whole_pixels_and_fills_with_zeros(shape: tuple[int, int, int]) -> None:
    x, (_, height, width) = batch(shape), shape
    reach = [int(size * 0.125 + 0.5) for size in (height, width)]
    seen = set()
    for seed in range(200):
        found = drawn("crop", seed)(x)
        matches = []
        for dy in range(-reach[0], reach[0] + 1):
            for dx in range(-reach[1], reach[1] + 1):
                expected = torch.zeros_like(x)
                for row in range(max(0, -dy), min(height, height - dy)):
                    for column in range(max(0, -dx), min(width, width - dx)):
                        expected[:, :, row, column] = x[:, :, row + dy, column + dx]
                if torch.equal(found, expected):
                    matches.append((dy, dx))
        assert len(matches) == 1, "no shift within an eighth of the size gives this"
        seen.update(matches)
        if len(seen) == (2 * reach[0] + 1) * (2 * reach[1] + 1) or seed > 8:
            break
    assert len(seen) > 5


def test_crop_draws_every_shift_equally_often() -> None:
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1.0
    counts = torch.zeros(9, 9)
    for seed in range(900):
        counts += drawn("crop", seed)(x)[0, 0]
    assert (counts[3:6, 3:6] > 60).all() and counts[3:6, 3:6].sum() == 900


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_cutout_zeroes_a_rectangle_of_half_of_each_side(shape: tuple[int, int, int]) -> None:
    x, (_, height, width) = batch(shape).abs() + 1, shape
    sizes = [int(size * 0.5 + 0.5) for size in (height, width)]
    full = 0
    for seed in range(DRAWS):
        found = drawn("cutout", seed)(x)
        hole = found == 0
        assert torch.equal(found[~hole], x[~hole])
        assert torch.equal(hole, hole[:1, :1].expand_as(hole)), "the same rectangle in every channel"
        rows, columns = hole[0, 0].any(dim=1).nonzero().flatten(), hole[0, 0].any(dim=0).nonzero().flatten()
        assert int(hole[0, 0].sum()) == len(rows) * len(columns), "a full rectangle"
        for span, extent, size in ((rows, height, sizes[0]), (columns, width, sizes[1])):
            assert span.tolist() == list(range(int(span[0]), int(span[-1]) + 1))
            inside = int(span[0]) > 0 and int(span[-1]) < extent - 1
            assert len(span) == size if inside else size // 2 <= len(span) <= size
        full += len(rows) == sizes[0] and len(columns) == sizes[1]
    assert full > 0


def test_cutout_s_centre_is_uniform_over_the_image() -> None:
    """A side of 9 with a hole of 5: index i is covered by the centres within 2 of it, out of 9."""
    x, draws = torch.ones(1, 1, 9, 9), 1000
    covered = sum((drawn("cutout", seed)(x)[0, 0] == 0).double() for seed in range(draws))
    share = torch.tensor([min(i + 2, 8) - max(i - 2, 0) + 1 for i in range(9)], dtype=torch.float64) / 9
    expected = share[:, None] * share[None, :]
    five_sigma = 5 * (expected * (1 - expected) / draws).sqrt()
    assert ((covered / draws - expected).abs() < five_sigma).all()


def test_flip_mirrors_left_and_right_half_of_the_time() -> None:
    x = batch(SHAPES["colour"])
    mirrored = torch.stack([x[..., 6 - column] for column in range(7)], dim=-1)
    flips = 0
    for seed in range(1000):
        found = drawn("flip", seed)(x)
        assert torch.equal(found, x) or torch.equal(found, mirrored)
        flips += torch.equal(found, mirrored)
    assert 440 < flips < 560  # four standard deviations


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_scale_stretches_each_axis_by_its_own_factor(shape: tuple[int, int, int]) -> None:
    x, low = batch(shape, 1), 1 / 1.2
    for seed in range(4):
        transform = drawn("scale", seed)
        u, v = transform.units[0, :2].tolist()
        theta = [[low + u * (1.2 - low), 0.0], [0.0, low + v * (1.2 - low)]]
        torch.testing.assert_close(transform(x), each_plane(x, theta), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_rotate_turns_by_up_to_fifteen_degrees(shape: tuple[int, int, int]) -> None:
    x = batch(shape, 1)
    for seed in range(4):
        transform = drawn("rotate", seed)
        angle = (float(transform.units[0, 0]) * 2 - 1) * math.pi / 12
        theta = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        torch.testing.assert_close(transform(x), each_plane(x, theta), rtol=1e-10, atol=1e-10)


def test_parameters_are_unit_numbers() -> None:
    """With the formulas above: strengths then stay within the published ranges."""
    units = torch.cat([drawn("scale", seed, 100).units for seed in range(50)])
    assert units.min() >= 0 and units.max() < 1
    assert units.min() < 0.001 and units.max() > 0.999


class Highest:
    """A generator that draws the largest number below 1, which float32 rounds to 1."""

    def integers(self, high: int) -> int:
        return 0

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, np.nextafter(1.0, 0.0))


@pytest.mark.parametrize("size", range(3, 40))
def test_the_largest_draw_stays_within_the_range_in_every_precision(size: int) -> None:
    transform = Augmentation("crop").siamese(Highest())
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(1, 1, size, size, dtype=dtype)
        kept = size - int(size * 0.125 + 0.5)
        assert float(transform(x).sum()) == kept**2


@pytest.mark.parametrize("op", OPS)
def test_float32_draws_the_same_transform_as_float64(op: str) -> None:
    x = batch(SHAPES["colour"])
    for seed in range(DRAWS):
        transform = drawn(op, seed)
        assert transform.units.dtype == torch.float32
        torch.testing.assert_close(transform(x.float()).double(), transform(x), rtol=1e-4, atol=1e-4)


def test_siamese_uses_one_op_and_one_set_of_parameters_for_all_samples() -> None:
    for seed in range(DRAWS):
        transform = Augmentation(ALL).siamese(np.random.default_rng(seed))
        same = batch(SHAPES["colour"], 1).expand(5, -1, -1, -1)
        found = transform(same)
        assert torch.equal(found, found[:1].expand_as(found))
        assert transform.units.shape[0] == 1


def test_siamese_fits_any_batch_size_and_shape_and_repeats() -> None:
    """Real and synthetic, audio and visual: one object, the same op and parameters at every call."""
    for seed in range(DRAWS):
        transform = Augmentation(ALL).siamese(np.random.default_rng(seed))
        for shape in SHAPES.values():
            real, synthetic = batch(shape, 7), batch(shape, 2)
            both = transform(torch.cat([real, synthetic]))
            torch.testing.assert_close(transform(real), both[:7], rtol=0, atol=0)
            torch.testing.assert_close(transform(synthetic), both[7:], rtol=0, atol=0)


@pytest.mark.parametrize("op", OPS)
def test_per_sample_parameters_differ_and_each_is_that_sample_s_own_transform(op: str) -> None:
    transform = drawn(op, 3, 8)
    x = batch(SHAPES["colour"], 1).expand(8, -1, -1, -1)
    found = transform(x)
    assert len({tuple(sample.flatten().tolist()) for sample in found}) > 1
    for i in range(8):
        alone = Transform(op, transform.units[i : i + 1])(x[:1])
        torch.testing.assert_close(found[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", OPS)
def test_rows_are_a_micro_batch_s_part(op: str) -> None:
    x, transform = batch(SHAPES["colour"], 7), drawn(op, 1, 7)
    parts = [transform.rows(start, min(start + 3, 7))(x[start : start + 3]) for start in range(0, 7, 3)]
    assert torch.equal(torch.cat(parts), transform(x))
    shared = drawn(op, 1)
    assert shared.rows(3, 6) is shared


@pytest.mark.parametrize("op", OPS)
def test_every_op_lets_gradients_through(op: str) -> None:
    x = batch(SHAPES["colour"], 2).requires_grad_(True)
    drawn(op, 5)(x).square().sum().backward()
    assert x.grad.abs().sum() > 0 and torch.isfinite(x.grad).all()


def test_a_batch_draws_one_op_and_in_time_all_of_them() -> None:
    augmentation = Augmentation(ALL)
    seen = {augmentation.siamese(np.random.default_rng(seed)).op for seed in range(100)}
    assert seen == set(OPS) == set(augmentation.ops)
    assert {Augmentation("flip_crop").siamese(np.random.default_rng(s)).op for s in range(20)} == {"flip", "crop"}


@pytest.mark.parametrize("strategy", ["none", ""])
def test_none_is_the_identity(strategy: str) -> None:
    x = batch(SHAPES["audio"])
    augmentation = Augmentation(strategy)
    assert augmentation.siamese(np.random.default_rng(0))(x) is x
    assert augmentation.per_sample(np.random.default_rng(0), 3).rows(1, 2)(x) is x


def test_an_unknown_op_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RequestError, match=r"unknown op 'rotat'; did you mean 'rotate'"):
        Augmentation("flip_rotat")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", OPS)
def test_precision_is_kept(op: str, dtype: torch.dtype) -> None:
    assert drawn(op, 0, 2)(batch(SHAPES["colour"], 2, dtype)).dtype == dtype
