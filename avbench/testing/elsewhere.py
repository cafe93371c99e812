"""A device that is not the processor, wherever the kit runs: a GPU, else a stand-in that torch keeps as strictly apart.

The stand-in's tensors lie in the processor's memory and are computed by its kernels, so that results agree to
rounding; but torch knows them as another device's, and what would mix devices on a GPU raises here likewise. It knows
neither the autocast nor the random generators of a GPU, and says nothing about its speed or kernels.

It takes the place of PyTorch's "meta" device, whose backward pass runs in the thread that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from avbench.testing.registry import Failure, NotChecked

#: The stand-in as torch names it.
NAME = "meta"
_aten: Any = torch.ops.aten
#: What may take tensors of two devices: copies do nothing else.
_CROSSING = frozenset({_aten.copy_.default, _aten._copy_from.default, _aten._to_copy.default})
#: Their second argument, the indices, may lie with the processor where the first does not.
_INDEXED = frozenset({_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default})
#: A number of the processor's goes with tensors of any device, but not into these.
_JOINING = frozenset({_aten.cat.default, _aten.stack.default})
_FROM_DATA: Any = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
#: Optimisers have fused kernels for GPUs and the processor, and ask by name.
_ASKS_WHERE_FUSED = "torch.optim.optimizer._get_fused_kernels_supported_devices"
_ADVICE = "Make tensors on context.device, and call cpu() before numpy()."


class DevicesMixed(RuntimeError):  # noqa: N818 - as torch puts it
    """An operation was given tensors of two devices."""


class Elsewhere(Tensor):
    """A tensor of the stand-in."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[Elsewhere], held: Tensor) -> Elsewhere:
        wrap: Callable[..., Any] = torch.Tensor._make_wrapper_subclass
        found: Elsewhere = wrap(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME),
            dispatch_sizes_strides_policy="sizes",  # asked for each time: unsqueeze_() and its like change them
        )
        found.held = held
        return found

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"{self.held!r} on {NAME}"

    def __format__(self, spec: str) -> str:
        return format(self.held, spec)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def tolist(self) -> Any:
        """As of a GPU's tensor."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, unless it is forced: numpy reads the processor's memory."""
        if not force:
            raise DevicesMixed(f"numpy can't read a tensor on {NAME}")
        return self.held.numpy(force=True)

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _ABOUT[func](*args) if func in _ABOUT else _compute(func, *args, **(kwargs or {}))


#: What torch asks a tensor about itself.
_ABOUT: dict[Any, Callable[..., Any]] = {
    torch.ops.prim.device.default: lambda x: torch.device(NAME),
    _aten.dim.default: lambda x: x.held.dim(),
    _aten.size.default: lambda x: list(x.held.shape),
    _aten.sym_size.default: lambda x: list(x.held.shape),
    _aten.numel.default: lambda x: x.held.numel(),
    _aten.sym_numel.default: lambda x: x.held.numel(),
    _aten.stride.default: lambda x: x.held.stride(),
    _aten.sym_stride.default: lambda x: x.held.stride(),
    _aten.storage_offset.default: lambda x: x.held.storage_offset(),
    _aten.sym_storage_offset.default: lambda x: x.held.storage_offset(),
    _aten.is_contiguous.default: lambda x: x.held.is_contiguous(),
    _aten.is_contiguous.memory_format: lambda x, form: x.held.is_contiguous(memory_format=form),
    _aten.is_strides_like_format.default: lambda x, form: _aten.is_strides_like_format.default(x.held, form),
    _aten.is_non_overlapping_and_dense.default: lambda x: _aten.is_non_overlapping_and_dense.default(x.held),
}


def _compute(func: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation, by the processor's kernel on the tensors that are held."""
    _refuse_mixed(func, args, kwargs)
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    wrapped = any(isinstance(x, Elsewhere) for x in tensors)
    if kwargs.get("device") is not None:
        wrapped = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = torch.device("cpu")
    held = {id(_held(x)): x for x in tensors}
    result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    # What works in place gives the very tensor that it was given.
    return tree_map(lambda x: held.get(id(x), Elsewhere(x) if wrapped else x) if isinstance(x, Tensor) else x, result)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Elsewhere) else x


def _refuse_mixed(func: Any, args: Any, kwargs: Any) -> None:
    """Raise where a GPU's operation would."""
    if func in _CROSSING:
        return
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if func in _INDEXED:
        itself, indices, *values = args
        tensors = [itself, *values[:1], *(x for x in indices if isinstance(x, Elsewhere))]
    near = [x for x in tensors if not isinstance(x, Elsewhere) and (x.dim() > 0 or func in _JOINING)]
    if near and len(near) < len(tensors) and any(isinstance(x, Elsewhere) for x in tensors):
        raise DevicesMixed(f"{func} was given a tensor {tuple(near[0].shape)} on {near[0].device} beside {NAME}'s")


class _Everything(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it lasts, what is made on the stand-in is made of its tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, *args, **(kwargs or {}))


class _FromData(TorchFunctionMode):
    """While it lasts, what is made of plain values on the stand-in is made on the processor and copied there.

    PyTorch would leave the values away: its meta device holds none.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FROM_DATA:
            device = kwargs.pop("device", None) or (args[0].device if func is Tensor.new_tensor else "cpu")
            if torch.device(device).type == NAME:
                wants_grad = kwargs.pop("requires_grad", False)
                return func(*args, device="cpu", **kwargs).to(NAME).requires_grad_(wants_grad)
            kwargs["device"] = device
        return func(*args, **kwargs)


def another_device() -> str:
    """``"cuda"`` where there is a GPU, else the stand-in."""
    return "cuda" if torch.cuda.is_available() else NAME


def described(device: str) -> str:
    """It in words, for a note."""
    return torch.cuda.get_device_name() if device == "cuda" else "no GPU here: on a stand-in"


@contextmanager
def mixing_told(device: str, advice: str = _ADVICE) -> Iterator[None]:
    """Around a plugin at work on a device: what it mixes there fails its check. On the processor nothing is mixed.

    Raises:
        Failure: devices were mixed.
        NotChecked: it needs what the stand-in lacks.
    """
    try:
        with ExitStack() as modes:
            if device == NAME:
                modes.enter_context(_Everything())  # type: ignore[no-untyped-call]
                modes.enter_context(_FromData())
                modes.enter_context(mock.patch(_ASKS_WHERE_FUSED, lambda: ["cpu", NAME]))
            yield
    except (Failure, NotChecked):
        raise
    except (Exception, SystemExit) as error:
        if device == "cpu":
            raise
        mixed = _cause(error)
        if mixed is not None or device == "cuda":
            raise Failure("it to work on another device", f"{mixed or error}", advice) from error
        raise NotChecked(f"no GPU here, and its stand-in can't do all: {type(error).__name__}: {error}") from error


def _cause(error: BaseException | None) -> DevicesMixed | None:
    while error is not None and not isinstance(error, DevicesMixed):
        error = error.__cause__ or error.__context__
    return error
