"""Recognition: networks trained from scratch on the distilled set, accuracy on the test split.

AVDD, section 4.1 and appendix C. Where the paper and its code differ ``recognition-code`` has the code's
values, which gave the published numbers, and ``recognition-paper`` those of the text; see docs/protocols.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Literal

import numpy as np
import torch

from avbench.data.samples import Rows, Samples, batches
from avbench.data.store import StoreInfo
from avbench.distill.augment import Augmentation
from avbench.errors import RequestError
from avbench.nets.base import Architecture, first_order
from avbench.nets.fusion import Fusion
from avbench.options import option
from avbench.prerequisite import Product
from avbench.protocols.base import Evaluation, EvaluationContext, Protocol, Weights
from avbench.protocols.network import Network
from avbench.protocols.optimisers import Optimisers
from avbench.randomness import Streams
from avbench.work import State

#: What stands for a file once its weights are kept in the run directory.
_WEIGHTS_KEY = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True)
class RecognitionConfig:
    """Options of ``recognition-code``; the defaults are those of the AVDD code."""

    epochs: int = option(30, "the fewest passes over the distilled set")
    updates: int = option(0, "the fewest optimiser steps; a small set gets more passes for them")
    batch: int = option(32, "training batch")
    lr_audio: float = option(1e-3, "learning rate of the audio encoder (Adam)")
    lr_visual: float = option(1e-4, "learning rate of the visual encoder")
    lr_classifier: float = option(1e-3, "learning rate of the heads")
    weight_decay: float = option(1e-4, "L2 penalty inside Adam")
    decay: float = option(0.1, "factor on all learning rates at each milestone")
    milestones: tuple[float, ...] = option((11 / 30, 21 / 30), "when to decay, as fractions of the epochs")
    augment: str = option(
        "color_crop_cutout_flip_scale_rotate", "ops, one drawn a batch, parameters for each sample; or none"
    )
    step_size: Literal["learned", "protocol"] = option(
        "learned", "where a set carries learned step sizes: train with them by SGD, or as every other set", added=True
    )
    init_weights: str = option(
        "", "encoder weights to start from: a file, recorded as the key of its content (--init-weights)", added=True
    )

    def __post_init__(self) -> None:
        Augmentation(self.augment)
        if self.epochs < 1 or self.updates < 0 or self.batch < 1:
            raise ValueError("epochs and batch must be at least 1, updates at least 0")
        if self.weight_decay < 0 or not 0 < self.decay <= 1 or not all(0 < m <= 1 for m in self.milestones):
            raise ValueError("weight_decay ≥ 0, 0 < decay ≤ 1 and milestones in (0, 1] are required")
        if not all(0 < rate < inf for rate in (self.lr_audio, self.lr_visual, self.lr_classifier)):
            raise ValueError("learning rates must be positive and finite")
        if self.init_weights and not _WEIGHTS_KEY.fullmatch(self.init_weights):
            raise ValueError("init_weights is set by --init-weights FILE, or as an option of --protocol")

    def epochs_for(self, count: int) -> int:
        """Epochs over ``count`` samples."""
        return max(self.epochs, ceil(self.updates / ceil(count / self.batch)))


@dataclass(frozen=True)
class PaperConfig(RecognitionConfig):
    """Options of ``recognition-paper``; the defaults are those of the AVDD paper's text (appendix C)."""

    lr_classifier: float = option(1e-4, "learning rate of the heads")
    milestones: tuple[float, ...] = option((1 / 3, 2 / 3), "when to decay, as fractions of the epochs: every 10 of 30")


@dataclass(frozen=True)
class QuickConfig(RecognitionConfig):
    """Options of ``recognition-quick``: at least 150 optimiser steps for every set.

    With 30 epochs a set of ten items gives a narrow network 30 steps, and its audio half stays at chance.
    """

    epochs: int = option(12, "the fewest passes over the distilled set")
    updates: int = option(150, "the fewest optimiser steps; a small set gets more passes for them")
    lr_audio: float = option(5e-3, "learning rate of the audio encoder (Adam)")
    lr_visual: float = option(5e-3, "learning rate of the visual encoder")
    lr_classifier: float = option(5e-3, "learning rate of the heads")


class Training(Product):
    """One network's training, an epoch a step."""

    def __init__(
        self,
        config: RecognitionConfig,
        samples: Samples,
        network: Network,
        streams: Streams,
        index: int,
        step_size: Mapping[str, float] | None = None,
    ) -> None:
        self.config, self.samples, self.network = config, samples, network
        self._streams, self._index = streams, index
        self._augmentation = Augmentation(config.augment)
        rates = {"a": config.lr_audio, "v": config.lr_visual}
        self._optimisers = Optimisers(network, rates, config.lr_classifier, config.weight_decay, step_size or {})

    @property
    def steps(self) -> int:
        return self.config.epochs_for(len(self.samples))

    def step(self, k: int) -> Mapping[str, float]:
        """Epoch ``k``: one pass in a fresh order."""
        # The first epoch always has the full rates, also where there are one or two epochs in all.
        passed = sum(k >= max(1, round(fraction * self.steps)) for fraction in self.config.milestones)
        self._optimisers.schedule(k, self.steps, self.config.decay**passed)
        self.network.train(True)
        rng = self._streams(f"evaluation epoch of network {self._index}", step=k)
        total = 0.0
        order = rng.permutation(len(self.samples))
        for rows in batches(order, self.config.batch, self.network.per_sample):
            total += self._update(rows, rng) * len(rows)
        return {"loss": total / len(self.samples)}

    def _update(self, rows: Rows, rng: np.random.Generator) -> float:
        batch = self.samples.batch(rows, "".join(self.network.encoders))  # a (B, 1, mels, frames), v (B, C, H, W)
        transform = self._augmentation.per_sample(rng, len(rows))
        with first_order():
            embeddings = self.network.embed({name: transform(x) for name, x in batch.items()})  # (B, D) each
        device = next(iter(embeddings.values())).device
        loss = self.network.head.loss(embeddings, self.samples.labels[torch.from_numpy(rows)].to(device))
        self._optimisers.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimisers.step()
        return float(loss.detach())

    def tensors(self) -> Weights:
        return {name: t.detach().cpu() for name, t in self.network.weights().items()}

    def state(self) -> State:
        return {"network": dict(self.network.weights()), **self._optimisers.state()}

    def load_state(self, state: State) -> None:
        self.network.load_weights(state["network"])
        self._optimisers.load_state(state)


class RecognitionEvaluation(Evaluation):
    """All networks, one after the other; the last epoch counts, never the best."""

    def __init__(self, config: RecognitionConfig, context: EvaluationContext) -> None:
        self.config, self.context = config, context
        self._epochs = config.epochs_for(len(context.samples))
        learned = context.step_size or {} if config.step_size == "learned" else {}
        self._step_size = {name: learned[name] for name in context.modality if name in learned}
        self._index = -1
        self._training: Training | None = None
        self._loss = float("nan")
        self._start = context.given(config.init_weights) if config.init_weights else None
        self._started = ""
        self._scores: list[dict[str, Any]] = []

    @property
    def steps(self) -> int:
        return self.context.networks * self._epochs

    def _begin(self, index: int) -> Training:
        c = self.context
        network = Network(c.dataset, c.modality, c.architecture, c.fusion, c.streams, index, c.device, c.dtype)
        if self._start is not None:
            self._started = network.start_from(self._start)
        self._index = index
        self._training = self._train(network)
        return self._training

    def _train(self, network: Network) -> Training:
        return Training(self.config, self.context.samples, network, self.context.streams, self._index, self._step_size)

    def step(self, k: int) -> Mapping[str, float]:
        index, epoch = divmod(k, self._epochs)
        training = self._training if self._training and self._index == index else self._begin(index)
        known = self.context.recall(index) if epoch == 0 else None
        if known is not None:  # trained before, as a prerequisite: only the test remains
            training.network.load_weights(known)
            self._finish(training, trained=False)
        if len(self._scores) > index:
            return {}
        metrics = training.step(epoch)
        self._loss = metrics["loss"]
        if epoch == self._epochs - 1:
            self._finish(training, trained=True)
        return metrics

    def _finish(self, training: Training, trained: bool) -> None:
        if trained:
            self.context.keep(self._index, training.tensors())
        score: dict[str, Any] = {"index": self._index, **self._score(training.network)}
        if trained:
            score["train_loss"] = self._loss
        self._scores.append(score)

    @torch.no_grad()
    def _score(self, network: Network) -> dict[str, dict[str, float]]:
        """What the protocol measures of a trained network: by metric, by what is scored."""
        network.train(False)
        test, correct = self.context.test, dict[str, int]()
        for start in range(0, len(test), self.context.micro_batch):
            rows = np.arange(start, min(start + self.context.micro_batch, len(test)), dtype=np.int64)
            probabilities = network.head.predict(network.embed(test.batch(rows, self.context.modality)))
            labels = test.labels[torch.from_numpy(rows)]
            for name, p in probabilities.items():  # (B, C)
                correct[name] = correct.get(name, 0) + int((p.argmax(dim=1).cpu() == labels).sum())
        return {"accuracy": {name: count / len(test) for name, count in correct.items()}}

    def result(self) -> dict[str, Any]:
        learned = {"learned_step_size": self._step_size} if self._step_size else {}
        started = {"init_weights": {"key": self.config.init_weights, "modalities": self._started}}
        return {"networks": self._scores, **learned, **(started if self._start is not None else {})}

    def state(self) -> State:
        training = self._training.state() if self._training else {}
        return {"scores": self._scores, "index": self._index, "training": training, "loss": self._loss}

    def load_state(self, state: State) -> None:
        self._scores, self._loss = list(state["scores"]), state["loss"]
        if state["index"] >= 0:
            self._begin(state["index"]).load_state(state["training"])


class Recognition(Protocol):
    """Audio-visual event recognition with the published settings of AVDD's code."""

    Config = RecognitionConfig
    config: RecognitionConfig

    def evaluation(self, context: EvaluationContext) -> RecognitionEvaluation:
        return RecognitionEvaluation(self.config, context)

    def train_on(
        self,
        samples: Samples,
        *,
        index: int,
        modality: str,
        dataset: StoreInfo,
        architecture: Architecture,
        fusion: Fusion,
        streams: Streams,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Training:
        if self.config.init_weights:  # a prerequisite belongs to the distilling, which starts from drawn networks
            raise RequestError("init_weights are for judging alone: give --init-weights FILE instead of --set.")
        network = Network(dataset, modality, architecture, fusion, streams, index, device, dtype)
        return Training(self.config, samples, network, streams, index)


class RecognitionPaper(Recognition):
    """Audio-visual event recognition with the settings of the AVDD paper's text."""

    Config = PaperConfig


class RecognitionQuick(Recognition):
    """Recognition in minutes on a CPU: at least 150 optimiser steps a set; not comparable with the paper."""

    Config = QuickConfig
