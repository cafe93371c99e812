"""A stand-in for a GPU: tensors that torch keeps as strictly apart from the processor's as a GPU's are.

They lie in the processor's memory and are computed by its kernels, so that results agree to rounding; but torch knows
them as another device's, and what would mix devices on a GPU raises here likewise. The stand-in knows neither the
autocast nor the random generators of a GPU, and says nothing about its speed or kernels.

It takes the place of PyTorch's "meta" device, whose backward pass runs in the thread that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

#: The stand-in as torch names it.
NAME = "meta"
_aten: Any = torch.ops.aten
#: What may take tensors of two devices: copies do nothing else.
_CROSSING = frozenset(
    {_aten.copy_.default, _aten._copy_from.default, _aten._to_copy.default, _aten._foreach_copy_.default}
)
#: Their second argument, the indices, may lie with the processor where the first does not.
_INDEXED = frozenset({_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default})
#: A number of the processor's goes with tensors of any device, but not into these.
_NO_NUMBERS = frozenset(
    {
        *(_aten.cat.default, _aten.stack.default, _aten.embedding.default, _aten.index_select.default),
        *(_aten.gather.default, _aten.take.default, _aten.nll_loss_forward.default, _aten.equal.default),
    }
)
#: These ask for lengths on the processor and give some there: the stand-in does not follow.
_LACKING = frozenset({_aten._pack_padded_sequence.default, _aten._ctc_loss.Tensor})
_FROM_DATA: Any = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
#: Optimisers have fused kernels for GPUs and the processor, and ask by name.
_ASKS_WHERE_FUSED = "torch.optim.optimizer._get_fused_kernels_supported_devices"


class DevicesMixed(RuntimeError):  # noqa: N818 - as torch puts it
    """An operation was given tensors of two devices."""


class ReadByNumpy(DevicesMixed, TypeError):  # noqa: N818
    """numpy was given a tensor that does not lie with the processor: of a GPU's torch says so by a TypeError."""


class Lacking(RuntimeError):  # noqa: N818
    """A GPU could do this; the stand-in can't."""


class Elsewhere(Tensor):
    """A tensor of the stand-in."""

    held: Tensor
    is_cuda = True  # what asks so would go to the processor otherwise

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

    def __copy__(self) -> Elsewhere:
        return Elsewhere(self.held)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def tolist(self) -> Any:
        """As of a GPU's tensor."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, unless it is forced: numpy reads the processor's memory."""
        if not force:
            raise ReadByNumpy("numpy can't read a tensor on the stand-in for a GPU")
        return self.held.numpy(force=True)

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _answer(func, args, kwargs)


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


def _answer(func: Any, args: Any, kwargs: Any) -> Any:
    if func in _ABOUT and isinstance(args[0], Elsewhere):
        return _ABOUT[func](*args)
    return _compute(func, *args, **(kwargs or {}))


def _compute(func: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation, by the processor's kernel on the tensors that are held."""
    if torch.is_inference_mode_enabled() and _is_composite(func):  # else autograd has taken it apart already
        with _Everything():  # type: ignore[no-untyped-call]
            return func.decompose(*args, **kwargs)
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    _refuse(func, args, kwargs, tensors)
    wrapped = any(isinstance(x, Elsewhere) for x in tensors)
    if kwargs.get("device") is not None:
        wrapped = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = torch.device("cpu")
    held = {id(_held(x)): x for x in tensors}
    result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    # What works in place gives the very tensor that it was given.
    return tree_map(lambda x: held.get(id(x), Elsewhere(x) if wrapped else x) if isinstance(x, Tensor) else x, result)


@cache
def _is_composite(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Elsewhere) else x


def _refuse(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
    """Raise where a GPU's operation would, and where the stand-in can't follow."""
    away = [x for x in tensors if isinstance(x, Elsewhere)]
    if func in _LACKING and away:
        raise Lacking(f"{func} asks for lengths on the processor")
    if any(x.device.type == NAME and not isinstance(x, Elsewhere) for x in tensors):
        raise Lacking(f"{func} was given a tensor that was made past the stand-in, such as in another thread")
    to = kwargs.get("device")
    if kwargs.get("generator") is not None and (away if to is None else torch.device(to).type == NAME):
        raise DevicesMixed(f"{func} draws on the stand-in for a GPU beside a generator on {kwargs['generator'].device}")
    if func in _CROSSING or not away:
        return
    written = [x for x in tree_leaves(_written(func, args, kwargs)) if isinstance(x, Tensor)]
    if func in _INDEXED:
        itself, indices, *values = args
        tensors = [itself, *values[:1], *(x for x in indices if isinstance(x, Elsewhere))]
    near = [x for x in tensors if not isinstance(x, Elsewhere) and (x.dim() > 0 or func in _NO_NUMBERS)]
    near += [x for x in written if not isinstance(x, Elsewhere)]
    if near:
        where = f"a tensor {tuple(near[0].shape)} on {near[0].device}"
        raise DevicesMixed(f"{func} was given {where} beside one on the stand-in for a GPU")


def _written(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """The arguments into which an operation writes."""
    about = func._schema.arguments
    given = [*zip(about, args, strict=False), *((each, kwargs[each.name]) for each in about if each.name in kwargs)]
    return [value for each, value in given if each.alias_info is not None and each.alias_info.is_write]


class _Everything(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it lasts, what is made on the stand-in is made of its tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _answer(func, args, kwargs)


class _AboveTensors(TorchFunctionMode):
    """While it lasts, what PyTorch would do with a meta tensor past all kernels is done with its values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _forward_over_reverse():
            raise Lacking("forward-mode over reverse-mode differentiation, such as torch.func.hessian")
        # The wrapper of the property is another one each time: == and not `is`.
        if func == Tensor.data.__set__ and all(isinstance(x, Elsewhere) for x in args):  # type: ignore[attr-defined]
            func(*args)
            args[0].held = args[1].held
            return None
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Elsewhere):
            args = (args[0], _index(args[1]), *args[2:])
        elif func in _FROM_DATA:
            return _from_data(func, list(args), kwargs)
        return func(*args, **kwargs)


def _forward_over_reverse() -> bool:
    """Whether ``torch.func`` mixes both modes: with wrapped tensors, as ours are, PyTorch then ends the process."""
    modes = torch._C._functorch
    kinds = {each.key() for each in modes.get_interpreter_stack() or ()}
    return {modes.TransformType.Jvp, modes.TransformType.Grad} <= kinds


def _index(index: Any) -> Any:
    """Lists as tensors on the processor: PyTorch would make them on the device of what they index, without values."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if not isinstance(index, list | range) or not len(index):
        return index
    numbers = all(isinstance(x, bool | int) for x in tree_leaves(list(index)))
    return torch.tensor(list(index), device="cpu") if numbers else index


def _from_data(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """``torch.tensor`` and its like: made on the processor and copied; PyTorch would leave the values away."""
    itself = [args.pop(0)] if func is Tensor.new_tensor else []
    if not args:
        return func(*itself, **kwargs)
    data, *others = args
    device, wants_grad = kwargs.pop("device", None), kwargs.pop("requires_grad", False)
    like = itself[0] if itself else data
    if device is None and isinstance(like, Elsewhere):
        device = like.device
    if isinstance(data, Tensor):
        dtype = kwargs.get("dtype", others[0] if others else None)
        copied = data if func in (torch.as_tensor, torch.asarray) else data.detach().clone()
        made = copied.to(device=device, dtype=dtype)
    elif device is not None and torch.device(device).type == NAME:
        made = func(*itself, tree_map(_held, data), *others, device="cpu", **kwargs).to(NAME)
    else:
        given = {} if device is None else {"device": device}
        made = func(*itself, tree_map(_held, data), *others, **given, **kwargs)
    return made.requires_grad_() if wants_grad else made


@contextmanager
def standing_in() -> Iterator[None]:
    """While it lasts torch has the stand-in, in this thread."""
    future = torch.__future__
    with ExitStack() as stack:
        stack.enter_context(_Everything())  # type: ignore[no-untyped-call]
        stack.enter_context(_AboveTensors())
        stack.enter_context(mock.patch(_ASKS_WHERE_FUSED, lambda: ["cpu", NAME]))
        # A module that moves keeps its parameters, as it does between the processor and a GPU.
        stack.callback(future.set_swap_module_params_on_conversion, future.get_swap_module_params_on_conversion())
        future.set_swap_module_params_on_conversion(True)
        yield
