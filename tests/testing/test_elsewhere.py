"""The stand-in for a GPU: it computes what the processor does, refuses what a GPU refuses, and leaves torch alone."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.testing import Failure, NotChecked
from avbench.testing.devices import mixing_told
from avbench.testing.elsewhere import NAME, DevicesMixed, Elsewhere

#: Where there is a GPU, it shows that the stand-in is like it.
DEVICES = [NAME, "cuda"] if torch.cuda.is_available() else [NAME]
place = NAME


@pytest.fixture
def elsewhere() -> Iterator[None]:
    with mixing_told(NAME):
        yield


@pytest.fixture(params=DEVICES)
def any_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys.modules[__name__], "place", request.param)
    with mixing_told(request.param):
        yield


def there(*shape: int) -> Tensor:
    return torch.ones(shape).to(place)


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor | np.ndarray) else value


def set_by(index: Any, values: Any) -> Tensor:
    x = there(3, 3)
    x[index] = values
    return x


def replace_data() -> Tensor:
    x = there(3).requires_grad_()
    x.data = x.data * 2
    x.data = torch.cat([x.data, there(1)])
    return x


def move_a_module() -> Tensor:
    """Moved after its optimiser was made, with weights that two layers share."""
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    nn.init.ones_(layer.weight)
    other.weight = layer.weight
    optimiser, before = torch.optim.SGD(layer.parameters(), lr=1.0), layer.weight
    nn.ModuleList([layer, other]).to(place)
    layer(there(1, 2)).sum().backward()
    optimiser.step()
    assert layer.weight is other.weight is before
    return other.weight


def infer() -> Tensor:
    with torch.inference_mode():
        return F.linear(torch.ones(2, 3).to(place), there(4, 3))


def foreach_copy() -> Tensor:
    x = there(3)
    torch._foreach_copy_([x], [torch.full((3,), 2.0)])
    return x


def saved() -> bytes:
    file = io.BytesIO()
    torch.save(there(3), file)
    return torch.load(io.BytesIO(file.getvalue()), map_location="cpu").numpy().tobytes()


NEAR, INDEX = torch.ones(3, 3), torch.tensor([0, 2])

#: What raises on a GPU where one of two tensors is the processor's.
REFUSED: dict[str, Callable[[], Any]] = {
    "a sum": lambda: there(3, 3) + NEAR,
    "a sum, the other way": lambda: NEAR + there(3, 3),
    "a sum in place": lambda: there(3, 3).add_(NEAR),
    "a GPU's number into the processor's tensor": lambda: NEAR * there(),
    "a product of matrices": lambda: there(3, 3) @ NEAR,
    "a convolution": lambda: F.conv2d(there(1, 1, 5, 5), torch.ones(1, 1, 3, 3)),
    "a loss": lambda: F.cross_entropy(there(3, 3), torch.zeros(3, dtype=torch.int64)),
    "a concatenation": lambda: torch.cat([there(3, 3), NEAR]),
    "a stack of numbers": lambda: torch.stack([there(), torch.tensor(1.0)]),
    "rows of the processor's tensor by a GPU's index": lambda: NEAR[INDEX.to(place)],
    "selecting by the processor's index": lambda: torch.index_select(there(3, 3), 0, INDEX),
    "gathering by the processor's index": lambda: there(3, 3).gather(0, INDEX[None]),
    "values put among a GPU's": lambda: there(3, 3).index_put_((INDEX,), torch.ones(2, 3)),
    "a CPU's generator": lambda: torch.randn(3, device=place, generator=torch.Generator()),
    "a CPU's generator, in place": lambda: there(3).normal_(generator=torch.Generator()),
    "a sum into the processor's number": lambda: torch.tensor(0.0).add_(there()),
    "selecting by the processor's number": lambda: torch.index_select(there(3, 3), 0, torch.tensor(1)),
    "reading by numpy": lambda: there(3).numpy(),
    "reading by numpy's own functions": lambda: np.asarray(there(3)),
}
ALLOWED: dict[str, Callable[[], Any]] = {
    "a number of the processor's": lambda: there(3, 3) * torch.tensor(2.0),
    "a plain number": lambda: there(3, 3) * 2,
    "rows by the processor's index": lambda: there(3, 3).cumsum(0)[INDEX],
    "rows set by the processor's index": lambda: there(3, 3).index_put_((INDEX,), there(2, 3) * 5),
    "copying from the processor": lambda: there(3, 3).copy_(NEAR * 2),
    "setting rows from the processor": lambda: set_by(slice(0, 2), torch.zeros(2, 3)),
    "reading numbers": lambda: (float(there()), there(3).tolist(), bool((there(3) > 0).all()), there(3).sum().item()),
    "rows by a list": lambda: there(3, 3).cumsum(0)[[0, 2]],
    "rows and columns by lists": lambda: there(3, 3).cumsum(0)[[1], [0, 1]],
    "rows by a list of booleans": lambda: there(3, 3).cumsum(0)[[True, False, True]],
    "rows set by a list": lambda: set_by([0, 2], 5.0),
    "data that is replaced": replace_data,
    "parameters that stay when a module moves": move_a_module,
    "without gradients": infer,
    "a tensor of a tensor": lambda: torch.as_tensor(there(3), dtype=torch.float64) + torch.tensor(there(3)),
    "a tensor of numbers that lie there": lambda: torch.tensor([there(2).sum()] * 2, device=place),
    "a copy": lambda: copy.copy(there(3)),
    "foreach copies": foreach_copy,
    "a number in a text": lambda: f"{there().sum():.2f}",
    "a file of torch's": saved,
    "numpy by way of the processor": lambda: there(3).cpu().numpy(),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("any_device")
def test_it_refuses_what_a_gpu_refuses(name: str) -> None:
    with pytest.raises(DevicesMixed if place == NAME else (RuntimeError, TypeError)):
        REFUSED[name]()


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.usefixtures("any_device")
def test_it_does_what_a_gpu_does_with_the_processor_s_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ALLOWED[name]()
    with monkeypatch.context() as on_the_processor:
        on_the_processor.setattr(sys.modules[__name__], "place", "cpu")
        expected = ALLOWED[name]()
    assert not isinstance(found, Tensor) or found.device.type == place
    assert found is not None and plain(found) == plain(expected)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 3)).double()


def matched(device: str) -> dict[str, Tensor]:
    """A loss of gradients, differentiated again, and a few steps of two optimisers: what distillation is made of."""
    net = network().to(device)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((5, 2, 8, 8)), device=device, requires_grad=True)
    y = torch.arange(5, device=device) % 3
    first = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(torch.stack([each.square().sum() for each in first]).sum(), x)
    sgd = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for optimiser in (sgd, torch.optim.Adam(net.parameters(), fused=True)):
        for _ in range(2):
            optimiser.zero_grad()
            F.cross_entropy(net(x.detach()), y).backward()
            optimiser.step()
    return {"second": second, **dict(net.named_parameters())}


def test_it_computes_what_the_processor_does() -> None:
    here = matched("cpu")
    with mixing_told(NAME):
        found = matched(NAME)
    for name, expected in here.items():
        assert isinstance(found[name].data, Elsewhere), name
        assert torch.allclose(found[name].detach().cpu(), expected, rtol=1e-12, atol=1e-14), name


@pytest.mark.usefixtures("elsewhere")
def test_what_changes_in_place_changes_every_view() -> None:
    x = there(3, 4)
    x[1].mul_(5)
    x.unsqueeze_(0)
    x[:, :, 0] += 1
    assert x.shape == (1, 3, 4)
    assert x.cpu().tolist() == [[[2, 1, 1, 1], [6, 5, 5, 5], [2, 1, 1, 1]]]


@pytest.mark.usefixtures("elsewhere")
def test_values_are_kept_wherever_tensors_are_made() -> None:
    values = [[1.0, 2.0], [3.0, 4.0]]
    made = [
        torch.tensor(values, device=NAME),
        torch.as_tensor(np.array(values, dtype=np.float32), device=NAME),
        there(1).new_tensor(values),
        torch.arange(1.0, 5.0, device=NAME).view(2, 2),
        copy.deepcopy(torch.tensor(values).to(NAME)),
    ]
    for each in made:
        assert each.device.type == NAME and each.tolist() == values
    assert torch.tensor(values, device=NAME, requires_grad=True).is_leaf
    assert there(1).new_tensor(values, device="cpu").device.type == "cpu"
    assert torch.tensor(values).device.type == "cpu"


def test_torch_is_left_as_it_was() -> None:
    with mixing_told(NAME):
        made = there(2)
    meta = torch.tensor([1.0], device=NAME)
    assert not isinstance(meta, Elsewhere) and meta.is_meta
    assert not torch._C._only_lift_cpu_tensors()
    assert made.cpu().tolist() == [1, 1], "what was made can be looked at afterwards"


def test_a_checkpoint_brings_tensors_back_to_the_device_of_the_run(tmp_path: Path) -> None:
    with mixing_told(NAME):
        state = {"near": torch.ones(2), "away": there(2) * 3, "deep": [{"away": (there(1),)}]}
        save_checkpoint(tmp_path / "c", 4, state, NAME)
        step, found = load_checkpoint(tmp_path / "c", NAME) or (0, {})
        places = [found["near"].device.type, found["away"].device.type, found["deep"][0]["away"][0].device.type]
        assert (step, places) == (4, ["cpu", NAME, NAME])
        assert found["away"].tolist() == [3, 3]
    # A run that began on a GPU may go on without one, and the other way round.
    _, found = load_checkpoint(tmp_path / "c") or (0, {})
    assert found["away"].device.type == "cpu" and found["away"].tolist() == [3, 3]
    save_checkpoint(tmp_path / "c", 4, found)
    with mixing_told(NAME):
        _, found = load_checkpoint(tmp_path / "c", NAME) or (0, {})
        assert found["away"].device.type == NAME and found["away"].tolist() == [3, 3]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, on its way to a Hessian
def test_mixing_is_a_failure_and_what_the_stand_in_lacks_is_not_checked() -> None:
    with pytest.raises(Failure, match="beside") as caught, mixing_told(NAME, "Move it."):
        try:
            there(3) + NEAR
        except DevicesMixed as error:
            raise ValueError("a plugin may wrap it") from error
    assert str(caught.value).endswith("Move it.")
    with pytest.raises(NotChecked, match="stand-in"), mixing_told(NAME):
        torch.Generator(device=NAME)
    with pytest.raises(NotChecked, match="forward-mode over reverse-mode"), mixing_told(NAME):
        torch.func.hessian(lambda x: (x**3).sum())(there(2))
