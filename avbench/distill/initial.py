"""What synthetic items start from: real samples drawn at random or by herding, or noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avbench.data.samples import Rows
from avbench.distill.factor import pack
from avbench.distill.herding import herd
from avbench.method import Context
from avbench.nets.base import Encoder
from avbench.plugin import Setting
from avbench.prerequisite import Prerequisite, TrainedNetwork

Init = Literal["random", "herding", "noise"]
Features = Literal["trained", "random"]


def required_for(init: Init, features: Features) -> Mapping[str, Prerequisite]:
    """The prerequisites of an initialisation: herding on trained features needs the trained network."""
    needs_network = init == "herding" and features == "trained"
    return {"features": TrainedNetwork()} if needs_network else {}


def random_rows(context: Context, cls: int, count: int) -> list[int]:
    """``count`` rows of a class at random; a smaller IPC takes a prefix of a larger one's. Wraps around."""
    order = context.streams("initial", cls=cls).permutation(context.train.class_rows(cls))
    return [int(order[i % len(order)]) for i in range(count)]


def herding_rows(context: Context, cls: int, count: int, features: Features) -> list[int]:
    """``count`` rows of a class by herding on concatenated audio and visual embeddings. Wraps around."""
    key = ("herding", _made_by(context, features), cls, count)
    order = context.share(key, lambda: herd(class_embeddings(context, cls, features), count))
    rows = context.train.class_rows(cls)
    return [int(rows[i]) for i in order]


def class_embeddings(context: Context, cls: int, features: Features) -> Tensor:
    """Embeddings (N_c, D) of all training samples of a class, in the order of ``train.class_rows(cls)``, on the CPU.

    Where both modalities are distilled, D is D_a + D_v: they are put side by side. Nothing is augmented.

    Args:
        features: ``"trained"``: by the network that the method requires under the name ``"features"``, as a
            :class:`avbench.prerequisite.TrainedNetwork`; ``"random"``: by one drawn from the run's streams.
    """
    key = ("herding encoders", _made_by(context, features))
    encoders = context.share(key, lambda: _feature_encoders(context, features))
    return _embeddings(context, encoders, cls)


def _made_by(context: Context, features: Features) -> tuple[str, str]:
    """What tells the encoders of one kind of features from others in the same job."""
    return features, context.prerequisite_keys.get("features", "")


def _feature_encoders(context: Context, features: Features) -> dict[str, Encoder]:
    info = context.setting.dataset
    encoders = {name: context.architecture.build(info, name) for name in context.setting.modality}
    for name, encoder in encoders.items():
        if features == "trained":
            weights = context.prerequisites["features"]
            prefix = f"{name}."
            own = {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}
            encoder.load_state_dict(own)
        else:
            context.architecture.draw(encoder, context.streams(f"herding network {name}"))
        encoder.to(context.device, context.dtype).train(False).requires_grad_(False)
    return encoders


@torch.no_grad()
def _embeddings(context: Context, encoders: Mapping[str, Encoder], cls: int) -> Tensor:
    """Embeddings (N_c, D_a + D_v) of all samples of a class, without augmentation, on the CPU."""
    rows = context.train.class_rows(cls)
    parts = []
    for start in range(0, len(rows), context.micro_batch):
        batch = context.train.batch(rows[start : start + context.micro_batch], context.setting.modality)
        parts.append(torch.cat([encoders[name](x) for name, x in batch.items()], dim=1).cpu())
    return torch.cat(parts)


def initial_items(
    context: Context, init: Init, features: Features, factor: int
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Initial items by modality (C·ipc, …), class-major, l² samples packed into each; and notes for the record."""
    setting = context.setting
    count = setting.ipc * factor**2
    if init == "noise":
        return _noise(context, setting), ()
    parts: dict[str, list[Tensor]] = {name: [] for name in setting.modality}
    wrapped = []
    for cls in context.classes:
        chosen = random_rows(context, cls, count) if init == "random" else herding_rows(context, cls, count, features)
        if len(set(chosen)) < count:
            wrapped.append(setting.dataset.classes[cls])
        rows: Rows = np.array(chosen, dtype=np.int64)
        for name, x in context.train.batch(rows, setting.modality).items():
            parts[name].append(pack(x, factor))
    notes = (f"initialisation wrapped around in: {', '.join(wrapped)}",) if wrapped else ()
    return {name: torch.cat(tensors) for name, tensors in parts.items()}, notes


def _noise(context: Context, setting: Setting) -> dict[str, Tensor]:
    """Standard normal items in network input space, a stream for each class."""
    items: dict[str, list[Tensor]] = {name: [] for name in setting.modality}
    for cls in context.classes:
        for name in setting.modality:
            rng = context.streams(f"initial noise {name}", cls=cls)
            shape = (setting.ipc, *setting.dataset.shape(name))
            items[name].append(torch.from_numpy(rng.standard_normal(shape)).to(context.dtype))
    return {name: torch.cat(tensors) for name, tensors in items.items()}
