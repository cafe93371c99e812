"""Architectures, fusions, protocols, datasets and hooks: one that keeps its contract, and those that break it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.api import (
    Architecture,
    Dataset,
    Embedding,
    Encoder,
    Evaluation,
    EvaluationContext,
    Fusion,
    FusionHead,
    PrepareContext,
    RequestError,
    Setting,
    Store,
    StoreInfo,
    StoreWriter,
    Streams,
    hookimpl,
    is_first_order,
    option,
)
from avbench.protocols.base import Metric
from avbench.protocols.recognition import Recognition, RecognitionConfig, RecognitionEvaluation, Training
from avbench.testing.stores import PLAIN, describe

# --- architectures ------------------------------------------------------------------------------------------------


class FlatEncoder(Encoder):
    """One hidden layer."""

    embedding_dim = 8

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x.flatten(1)))


class Flat(Architecture):
    """One hidden layer."""

    encoder: type[Encoder] = FlatEncoder

    def build(self, dataset: StoreInfo, modality: str) -> Encoder:
        return self.encoder(dataset.shape(modality))  # type: ignore[call-arg]


class Choosy(Flat):
    """Refuses small inputs by an assertion."""

    def build(self, dataset: StoreInfo, modality: str) -> Encoder:
        assert min(dataset.shape(modality)[1:]) > 4
        return super().build(dataset, modality)


class Wide(Flat):
    """Says another size than it gives."""

    def build(self, dataset: StoreInfo, modality: str) -> Encoder:
        encoder = super().build(dataset, modality)
        encoder.embedding_dim = 9
        return encoder


class HalfDrawn(Flat):
    """Leaves its bias as it was."""

    def draw(self, encoder: Encoder, rng: np.random.Generator) -> None:
        weight = encoder.get_parameter("layer.weight")
        with torch.no_grad():
            weight.copy_(torch.from_numpy(rng.standard_normal(tuple(weight.shape)) / 10))


class NormedEncoder(FlatEncoder):
    """Batch norm that is kept quiet about."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return self.norm(z) if len(z) > 1 else z


class Normed(Flat):
    """Batch norm that is kept quiet about."""

    encoder = NormedEncoder


class CutEncoder(FlatEncoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class Cut(Flat):
    """No gradient to the input."""

    encoder = CutEncoder


class HastyEncoder(FlatEncoder):
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        return torch.tanh(F.linear(x.flatten(1), weight, bias.detach() if is_first_order() else bias))


class Hasty(Flat):
    """Leaves a gradient out where it is not differentiated again."""

    encoder = HastyEncoder


class SteepEncoder(FlatEncoder):
    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return 2 * z - z.detach() if is_first_order() else z


class Steep(Flat):
    """Another gradient where it is not differentiated again."""

    encoder = SteepEncoder


class FixedEncoder(FlatEncoder):
    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return z if self.training else z.float()


class Fixed(Flat):
    """Always float32."""

    encoder = FixedEncoder


class SmallBatchEncoder(FlatEncoder):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 4:
            raise ValueError("too many samples")
        return super().forward(x)


class SmallBatches(Flat):
    """Takes four samples at most."""

    encoder = SmallBatchEncoder


class Ageing(Flat):
    """Other weights each time."""

    times = count(1)

    def draw(self, encoder: Encoder, rng: np.random.Generator) -> None:
        super().draw(encoder, rng)
        with torch.no_grad():
            encoder.get_parameter("layer.weight").mul_(1 + next(self.times))


# --- fusions --------------------------------------------------------------------------------------------------------


class MeanHead(FusionHead):
    """A classifier a modality, logits averaged."""

    def __init__(self, embeddings: Mapping[str, Embedding], classes: int) -> None:
        super().__init__()
        self.head = nn.ModuleDict({name: nn.Linear(each.dim, classes) for name, each in embeddings.items()})

    def logits(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.head[name](z) for name, z in embeddings.items()]).mean(dim=0)

    def loss(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(embeddings), labels)

    def predict(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"".join(sorted(embeddings)): self.logits(embeddings).softmax(dim=1)}

    def own(self, modality: str) -> list[nn.Parameter]:
        return list(self.head[modality].parameters())


class Mean(Fusion):
    """Logits averaged."""

    made: type[FusionHead] = MeanHead

    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> FusionHead:
        return self.made(embeddings, classes)  # type: ignore[call-arg]


class LogitsHead(MeanHead):
    def predict(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"".join(sorted(embeddings)): self.logits(embeddings)}


class Logits(Mean):
    """Scores that are no probabilities."""

    made = LogitsHead


class IdleHead(MeanHead):
    def __init__(self, embeddings: Mapping[str, Embedding], classes: int) -> None:
        super().__init__(embeddings, classes)
        self.idle = nn.Linear(2, 2)


class Idle(Mean):
    """A layer that the loss does not reach."""

    made = IdleHead


class UndrawnFusion(Mean):
    """Weights as PyTorch made them."""

    def draw(self, head: FusionHead, stream: Any) -> None:
        """Nothing is drawn."""


class CommonHead(MeanHead):
    def own(self, modality: str) -> list[nn.Parameter]:
        return list(self.head["a"].parameters())


class Common(Mean):
    """Says of one modality's parameters that they are both's."""

    made = CommonHead


# --- protocols --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BriefConfig(RecognitionConfig):
    """Options."""

    epochs: int = option(2, "epochs")


class Brief(Recognition):
    """Recognition in two epochs."""

    Config = BriefConfig
    judge: type[RecognitionEvaluation] = RecognitionEvaluation

    def evaluation(self, context: EvaluationContext) -> RecognitionEvaluation:
        return self.judge(self.config, context)


class Promising(Brief):
    """Promises what it does not measure."""

    metrics = (Metric("accuracy"), Metric("F1"))


class Percent(Brief):
    """A share in percent."""

    class judge(RecognitionEvaluation):  # noqa: N801
        def result(self) -> dict[str, Any]:
            networks = [{**n, "accuracy": {"av": 100 * max(n["accuracy"].values()) + 1}} for n in self._scores]
            return {"networks": networks}


class Crowded(Brief):
    """Networks that depend on how many there are."""

    def evaluation(self, context: EvaluationContext) -> RecognitionEvaluation:
        return super().evaluation(replace(context, streams=Streams(1000 + context.networks)))


class Hopeful(Brief):
    """The best epoch on the test split."""

    class judge(RecognitionEvaluation):  # noqa: N801
        def step(self, k: int) -> Mapping[str, float]:
            found = super().step(k)
            assert self._training is not None
            self._score(self._training.network)
            return found


class Careless(Brief):
    """Normalises the samples in place."""

    def evaluation(self, context: EvaluationContext) -> RecognitionEvaluation:
        for tensor in getattr(context.samples, "tensors", {}).values():
            tensor.sub_(1.0)
        return super().evaluation(context)


class Amnesic(Brief):
    """A state without the weights."""

    class judge(RecognitionEvaluation):  # noqa: N801
        def load_state(self, state: Any) -> None:
            self._scores = list(state["scores"])


class Plain(Brief):
    """Refuses learned step sizes midway."""

    def evaluation(self, context: EvaluationContext) -> Evaluation:  # type: ignore[override]
        if context.step_size:
            raise ValueError("no step sizes here")
        return super().evaluation(context)


class Nameless(Brief):
    """Tensors under names of its own."""

    def train_on(self, *arguments: Any, **named: Any) -> Training:
        found = super().train_on(*arguments, **named)
        tensors = found.tensors
        found.tensors = lambda: {f"net.{name}": t for name, t in tensors().items()}  # type: ignore[method-assign]
        return found


class Surprised(Brief):
    """Finds out too late that a modality is missing."""

    def evaluation(self, context: EvaluationContext) -> RecognitionEvaluation:
        if context.modality != "av":
            raise RuntimeError("both modalities are needed")
        return super().evaluation(context)


# --- datasets ---------------------------------------------------------------------------------------------------------


class Tones(Dataset):
    """Noise with a class pattern; from nothing, or from any .txt file."""

    embedded = True
    licence = "CC0-1.0"

    def prepare(self, context: PrepareContext) -> Store:
        info = replace(describe(PLAIN), name=context.name, dataset="tones", licence=self.licence)
        info = replace(info, dataset_version=self.version)
        writer = StoreWriter(context.data, info)
        rng = np.random.default_rng(self.seed())
        for split, counts in info.counts.items():
            for row in range(sum(counts)):
                audio = rng.normal(-40, 10, info.audio_shape).astype(np.float32)
                writer.put(split, row, audio, self.frame(rng, info), f"{split}{row}")
        return writer.finish()

    def seed(self) -> int:
        return 0

    def frame(self, rng: np.random.Generator, info: StoreInfo) -> np.ndarray[Any, Any]:
        return rng.integers(0, 255, info.frame_shape).astype(np.uint8)


class UnsureTones(Tones):
    """Embedded, or not."""

    embedded = "sometimes"  # type: ignore[assignment]


class TonesFromText(Tones):
    """Tones that need a text file, and crash without."""

    embedded = False

    def prepare(self, context: PrepareContext) -> Store:
        lines = Path(str(context.source)).read_text(encoding="utf-8").splitlines()
        assert lines[0] == "tones"
        return super().prepare(context)


class TonesWithRemains(Tones):
    """Tones that leave a file of their own beside the stores."""

    embedded = False

    def prepare(self, context: PrepareContext) -> Store:
        context.data.mkdir(parents=True, exist_ok=True)
        (context.data / "tones.tmp").write_bytes(b"half a tone")
        raise RequestError("it is no file of tones.")


class UnlicensedTones(Tones):
    """Nobody knows whose they are."""

    licence = " "


class BlackTones(Tones):
    """Frames without content."""

    def frame(self, rng: np.random.Generator, info: StoreInfo) -> np.ndarray[Any, Any]:
        return np.zeros(info.frame_shape, np.uint8)


class TimedTones(Tones):
    """Seeded by the clock."""

    def seed(self) -> int:
        return time.time_ns()


class NotingTones(Tones):
    """Leaves a note in the current folder."""

    def seed(self) -> int:
        Path("tones.log").write_text("made", encoding="utf-8")
        return 0


class ThreadedTones(Tones):
    """Takes all threads and keeps them."""

    def seed(self) -> int:
        torch.set_num_threads(3)
        return 0


# --- hooks ------------------------------------------------------------------------------------------------------------


class Quiet:
    """Takes events."""

    @hookimpl
    def step(self, task: str, metrics: Mapping[str, float]) -> None:
        assert metrics


class Mistyped:
    """A function named like no event."""

    @hookimpl
    def stepped(self, task: str) -> None:
        """Never called."""


class Nervous:
    """Raises."""

    @hookimpl
    def job_finished(self, job: Mapping[str, Any], status: str) -> None:
        raise KeyError("host")


class Trusting:
    """Takes for granted that a task which ends has a record."""

    @hookimpl
    def task_finished(self, folder: Path | None) -> None:
        assert folder is not None, "a folder"


class Unclosed:
    """Raises at the end of the process."""

    @hookimpl
    def process_finished(self) -> None:
        raise OSError("not closed")


class SettingBound(Flat):
    """Defaults from nowhere."""

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Any]:
        return {"width": 3}


GOOD: list[Any] = [Flat, Mean, Brief, Tones, Quiet]
#: A plugin, the checks that fail with the one that must catch it first, and words of that one.
BROKEN: list[tuple[Any, tuple[str, ...], str]] = [
    (SettingBound, ("defaults", "sizes"), "'width'"),
    (Choosy, ("sizes",), "AssertionError"),
    (Wide, ("sizes", "grid"), "(3, 9)"),
    (HalfDrawn, ("draw", "global-random-state"), "layer.bias"),
    (Normed, ("per-sample",), "batch"),
    (Cut, ("gradients",), "the input"),
    (Hasty, ("gradients",), "layer.bias inside first_order()"),
    (Steep, ("gradients",), "the input inside first_order()"),
    (Fixed, ("moves",), "float32"),
    (SmallBatches, ("grid",), "too many samples"),
    (Ageing, ("repeatable", "draw"), "one seed"),
    (Logits, ("predictions",), "probabilities"),
    (Idle, ("loss",), "idle"),
    (UndrawnFusion, ("draw", "global-random-state"), "streams"),
    (Common, ("own-parts",), "some to both"),
    (Promising, ("metrics",), "F1"),
    (Percent, ("metrics",), "from 0 to 1"),
    (Crowded, ("networks",), "alone"),
    (Hopeful, ("last-epoch",), "last step"),
    (Careless, ("samples",), "a, v"),
    (Amnesic, ("resume",), "interruption"),
    (Plain, ("learned-sets",), "no step sizes"),
    (Nameless, ("train-on",), "net."),
    (Surprised, ("modalities",), "both modalities"),
    (UnsureTones, ("class-variables",), "sometimes"),
    (TonesFromText, ("refuses-other-sources",), "RequestError"),
    (TonesWithRemains, ("refuses-other-sources",), "left behind"),
    (UnlicensedTones, ("prepare",), "licence"),
    (BlackTones, ("values",), "one value"),
    (TimedTones, ("repeatable",), "fingerprint"),
    (NotingTones, ("files",), "tones.log"),
    (ThreadedTones, ("settings",), "threads"),
    (Mistyped, ("registers", "events"), "stepped"),
    (Nervous, ("events",), "host"),
    (Trusting, ("events",), "task_finished"),
    (Unclosed, ("events",), "not closed"),
]
