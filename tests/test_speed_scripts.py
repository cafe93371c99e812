"""The scripts of benchmarks/speed at small sizes: both ways do the same work, and the table has their figures."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from avbench.api import Augmentation, decode
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """Import a script by name; afterwards none of them is left among the modules, whose names are common words."""
    before = set(sys.modules)
    sys.path.insert(0, str(SPEED))
    torch.set_num_threads(1)
    yield importlib.import_module
    sys.path.remove(str(SPEED))
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if str(SPEED) in file:
            del sys.modules[name]


def test_no_helper_of_the_tests_has_the_name_of_a_script() -> None:
    """Both folders are on the path in a whole run, where the module that was imported first would stand for both."""
    names = [{path.stem for path in folder.glob("*.py")} for folder in (SPEED, SPEED.parent / "scaling")]
    assert not {path.stem for path in Path(__file__).parent.glob("*.py")} & set.union(*names)


def small(script: Any, **changed: Any) -> Any:
    return script("comparing").Run(**{"size": "small", "rounds": 1, **changed})


def figures(report: Any) -> dict[str, float]:
    assert all(np.isfinite(f.value) for f in report.figures)
    return {f.what: f.value for f in report.figures}


@pytest.mark.parametrize("modality", ["a", "v"])
def test_the_plain_network_is_convnet(script: Any, small_info: Any, modality: str) -> None:
    network = script("plain.network")
    encoder = ConvNetArchitecture(ConvNetConfig(width=8)).build(small_info, modality)
    plain = network.PlainNetwork(network.form_of(small_info, modality, 8, 1e-4))
    plain.copy(list(encoder.parameters()))
    x = torch.randn(3, *small_info.shape(modality))
    torch.testing.assert_close(plain.embed(x), encoder(x), rtol=1e-4, atol=1e-5)
    assert plain(x).shape == (3, len(small_info.classes))
    assert float(plain.classifier.weight.detach().abs().max()) < 1e-3
    assert not any(type(m).__module__.startswith("avbench") for m in plain.modules())


class Convolutions(TorchDispatchMode):
    """Counts their floating-point operations with torch's own formulas."""

    flop = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if "convolution" in str(func):
            self.flop += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def convolved(act: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions of ``act``."""
    with Convolutions() as counter:
        act()
    return counter.flop


@pytest.mark.parametrize("modality", ["a", "v"])
def test_operations_are_those_that_torch_counts(script: Any, small_info: Any, modality: str) -> None:
    plain = script("plain.network")
    form = plain.form_of(small_info, modality, 8)
    network = plain.PlainNetwork(form)
    x, labels = torch.randn(1, *small_info.shape(modality)), torch.zeros(1, dtype=torch.long)
    weights = list(network.parameters())

    def matched() -> None:
        item = x.clone().requires_grad_(True)
        gradients = torch.autograd.grad(cross_entropy(network(item), labels), weights, create_graph=True)
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), item)

    assert convolved(lambda: network(x)) == plain.forward_flop(form)
    assert convolved(lambda: cross_entropy(network(x), labels).backward()) == plain.training_flop(form)
    # torch goes on to how the weights change their own gradient's input, which nobody needs: not in the first block.
    needless = plain.forward_flop(form) - plain.forward_flop(replace(form, depth=1))
    assert convolved(matched) == plain.matched_flop(form) + needless


@pytest.fixture
def small_info(script: Any) -> Any:
    pieces = script("budget_pieces")
    return pieces.sized(pieces.TINY, (2, 2))


@pytest.mark.parametrize("op", ["color", "crop", "cutout", "flip", "scale", "rotate"])
@pytest.mark.parametrize("channels", [1, 3])
def test_plain_ops_are_the_ops(script: Any, op: str, channels: int) -> None:
    augmented = script("plain.augmentation").augmented
    x = torch.randn(4, channels, 12, 9)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for transform in (Augmentation(op).siamese(rng), Augmentation(op).per_sample(rng, 4)):
            found = augmented(x, transform.op, transform.units)
            torch.testing.assert_close(found, transform(x), rtol=1e-5, atol=1e-5)
            assert op == "flip" or not torch.equal(found, x)


def test_plain_decoding_is_decoding_in_another_order(script: Any) -> None:
    items = torch.randn(3, 2, 9, 7)
    found = script("plain.augmentation").decoded(items, 2).unflatten(0, (4, 3)).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(found, decode(items, 2))


def test_an_iteration_is_that_of_both_published_scripts(script: Any) -> None:
    found = figures(script("iteration").measure(small(script)))
    ratios = [what for what in found if what.endswith("/ avbench")]
    assert len(ratios) == 4
    assert all(found[what] > 0 for what in ratios)
    assert all(value < 1e-3 for what, value in found.items() if "apart" in what)


def test_another_loss_is_found_out_before_a_time_counts(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = script("plain.matching").PlainCell
    loss = plain.loss
    monkeypatch.setattr(plain, "loss", lambda *given: 1.01 * loss(*given))
    with pytest.raises(SystemExit, match="not the same work"):
        script("iteration").measure(small(script))


def test_a_cell_of_a_job_ends_where_it_does_alone(script: Any) -> None:
    found = figures(script("grid").measure(small(script)))
    assert [value for what, value in found.items() if what.endswith("alone apart")] == [0.0]
    assert any(what.endswith("job / dearest cell") for what in found)


def test_condensation_is_the_plain_one_with_its_trainings(script: Any) -> None:
    found = figures(script("condensation").measure(small(script)))
    apart = [value for what, value in found.items() if "apart" in what]
    assert len(apart) == 2
    assert max(apart) < 1e-3


def test_judging_ends_at_the_plain_losses(script: Any) -> None:
    found = figures(script("evaluation").measure(small(script)))
    assert any(what.endswith("plain / avbench") for what in found)
    assert next(value for what, value in found.items() if "losses apart" in what) < 1e-2


def test_the_adjoint_has_the_gradient_of_the_plain_unroll(script: Any) -> None:
    unrolling, run = script("unrolling"), small(script)
    for case in unrolling.CASES["small", "cpu"]:
        ways = unrolling.ways_of(case, run)
        ours, theirs = ways["adjoint"](1), ways["unrolled"](1)
        for name, gradient in theirs.items():
            torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


def test_herding_chooses_as_the_plain_loop(script: Any) -> None:
    found = figures(script("herding").measure(small(script)))
    assert any(what.endswith("loop / avbench") for what in found)


def test_the_convolution_that_was_tried_is_a_convolution(script: Any) -> None:
    alternatives = script("alternatives")
    x, weight = torch.randn(2, 8, 12, 5, dtype=torch.float64), torch.randn(7, 5, 3, 3, dtype=torch.float64)
    found = alternatives.winograd(x, alternatives.winograd_filters(weight))
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, padding=1)
    torch.testing.assert_close(found.permute(0, 3, 1, 2), expected)


def test_blocks_of_our_own_are_the_plain_layers(script: Any) -> None:
    found = figures(script("blocks").measure(small(script)))
    assert 0 < found.pop("32 × 32, 0.25 MiB a map: largest difference") < 1e-4  # other roundings: it was another way
    assert len(found) == 6 and all(value > 0 for value in found.values())


def test_limits_are_found(script: Any) -> None:
    found = figures(script("peak").measure(small(script)))
    assert min(found.values()) > 0


def test_an_exponent_is_the_slope_of_the_last_three_points(script: Any) -> None:
    growth = script("growth")
    assert growth.exponent((1, 2, 4, 8), (100.0, 6.0, 12.0, 24.0)) == pytest.approx(1)
    assert growth.exponent((1, 2, 4, 8), (1.0, 5.0, 5.0, 5.0)) == pytest.approx(0)
    assert growth.exponent((1, 2, 4), (1.0, 4.0, 16.0)) == pytest.approx(2)


def test_a_point_of_growth_has_time_and_memory(script: Any) -> None:
    growth = script("growth")
    seconds, mib = growth.measured(growth.Point(classes=1, ipc=1, clips=16, steps=1), small(script))
    assert seconds > 0
    assert mib > 0


def outcome(script: Any, name: str, report: Any) -> Any:
    return script("all").Outcome(name, report.to_json() if report else None, "" if report else "exit status 1", 1, 2)


def test_the_table_has_every_figure_and_its_verdict(script: Any, tmp_path: Path) -> None:
    comparing = script("comparing")
    fast = comparing.Figure("a ratio", 3.25, "×", 3.0, True, 3.1, 3.4)
    large = comparing.Figure("a peak", 4096.0, "MiB", 2048.0, at_least=False)
    series = tuple(
        comparing.Series("ipc", of, unit, (1.0, 2.0), (1.5, 2.5)) for of, unit in (("time", "s"), ("memory", "MiB"))
    )
    outcomes = [
        outcome(script, "iteration", comparing.Report("Iterations", (fast, large), ("A note.",))),
        outcome(script, "growth", comparing.Report("Growth", (), series=series)),
        outcome(script, "grid", None),
    ]
    script("all").write(outcomes, {"date": "2026-01-02"}, tmp_path / "there" / "table.md")
    text = (tmp_path / "there" / "table.md").read_text(encoding="utf-8")
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["a ratio", "3.25 ×", "3.1 to 3.4", "≥ 3", "reached"] in rows
    assert ["a peak", "4,096 MiB", "", "≤ 2048", "**NO**"] in rows
    assert "A note." in text
    assert "`grid.py` failed: exit status 1." in text
    assert "(table-growth.svg)" in text
    assert (tmp_path / "there" / "table-growth.svg").read_text(encoding="utf-8").count("<svg") == 1
    values = json.loads((tmp_path / "there" / "table.json").read_text(encoding="utf-8"))
    assert values["scripts"][0]["report"]["figures"][0]["reached"] is True


def test_every_script_of_the_table_exists_and_takes_the_common_options(script: Any) -> None:
    for name in script("all").SCRIPTS:
        module: ModuleType = script(name)
        assert Path(str(module.__file__)).parent == SPEED
        assert callable(module.measure)


def test_an_unknown_script_is_refused(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script("all").main(["--only", "iteration,speed"])
    assert ended.value.code == 2
    assert "speed is not one of" in capsys.readouterr().err


@pytest.mark.slow
def test_one_command_measures_and_writes_the_table(script: Any, tmp_path: Path) -> None:
    assert script("all").main(["--quick", "--out", str(tmp_path / "table.md")]) == 0
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    for name in script("all").SCRIPTS:
        assert f"`{name}.py`: " in text
    assert "failed" not in text
