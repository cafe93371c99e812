"""A protocol under check: its evaluations of the kit's samples, with a test split that notes when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench.configure import reconstruct
from avbench.data.samples import Batch, Rows, TensorSamples, TestSet
from avbench.desk import dtype_of
from avbench.errors import RequestError
from avbench.grammar import Variant
from avbench.grid import MODALITIES, Planned
from avbench.prerequisite import Product
from avbench.protocols.base import Evaluation, EvaluationContext, Metric, Protocol
from avbench.testing.bench import Scene
from avbench.testing.given import SELECTS
from avbench.testing.observing import Outcome
from avbench.testing.registry import Failure, NotChecked
from avbench.testing.subject import Subject
from avbench.testing.trials import at, through
from avbench.testing.watching import unwatched

#: How many networks an evaluation trains, unless a check says otherwise.
NETWORKS = 2
#: Of :meth:`Protocol.train_on` the kit makes the first steps.
TRAINING_STEPS = 3

Results = list[dict[str, Any]]


class WatchedTest(TestSet):
    """A test split that notes in which step of the evaluation it is read."""

    step = -1

    def batch(self, rows: Rows, modality: str) -> Batch:
        self.read_in: set[int] = getattr(self, "read_in", set()) | {self.step}
        return super().batch(rows, modality)


class Judging(Subject):
    """A protocol under check."""

    @property
    def scene(self) -> Scene:
        """The first setting that it does not refuse.

        Raises:
            NotChecked: it refuses all of them.
        """
        for modality in reversed(MODALITIES):
            try:
                self.planned(Scene(modality=modality))
            except RequestError:
                continue
            return Scene(modality=modality)
        raise NotChecked("it refuses every modality: see the check 'metrics'")

    def planned(self, scene: Scene, method: str = SELECTS) -> Planned:
        """The kit's cell, judged by the protocol."""
        parts = {"method": Variant(method), "protocol": self.variant}
        return self.bench.planned(scene, parts, networks=NETWORKS)

    def protocol(self) -> Protocol:
        """It, configured as the runner does."""
        ref = self.planned(self.scene).evaluations[0].judged_by.protocol
        built: Protocol = reconstruct("protocols", ref).build()
        return built

    def context(self, networks: int, **changes: Any) -> EvaluationContext:
        """What an evaluation is given: two real samples a class to train on, and a watched test split.

        Args:
            changes: of the scene, such as ``data`` or ``device``.
        """
        scene = at(self.scene, **changes)
        planned = self.planned(scene)
        desk = self.bench.desk(scene, self.bench.runs)
        with unwatched():
            train = desk.train_set(planned.cell)
            test = WatchedTest(desk.store(planned.cell), desk.device, dtype_of(planned.cell))
        rows = np.concatenate([train.class_rows(cls)[: scene.ipc] for cls in range(len(train.info.classes))])
        judged_by = planned.evaluations[0].judged_by
        return EvaluationContext(
            dataset=train.info,
            samples=TensorSamples(train.batch(rows, scene.modality), train.labels[torch.from_numpy(rows)]),
            test=test,
            modality=scene.modality,
            architecture=reconstruct("architectures", judged_by.architecture).build(),
            fusion=reconstruct("fusions", judged_by.fusion).build(),
            streams=desk.streams(planned.cell),
            networks=networks,
            device=desk.device,
            dtype=dtype_of(planned.cell),
            micro_batch=desk.micro_batch(planned.cell),
        )

    def results(self, context: EvaluationContext, handed_on: Path | None = None) -> Results:
        """The networks' scores after all steps.

        Args:
            handed_on: a checkpoint to write after the first step, from which another evaluation makes the others.
        """
        evaluation = self._evaluation(context)
        for k in range(evaluation.steps):
            if k == 1 and handed_on is not None:
                state = through(handed_on, evaluation.state(), context.device)
                evaluation = self._evaluation(context)
                evaluation.load_state(state)
            context.test.step = k  # type: ignore[attr-defined]  # a WatchedTest
            evaluation.step(k)
        found: Results = evaluation.result()["networks"]
        return found

    def _evaluation(self, context: EvaluationContext) -> Evaluation:
        evaluation = self.protocol().evaluation(context)
        if not isinstance(evaluation, Evaluation):
            advice = "Derive it from avbench.api.Evaluation."
            raise Failure("evaluation() to give an Evaluation", type(evaluation).__name__, advice)
        return evaluation

    def judged(self, networks: int = NETWORKS) -> Results:
        """What :meth:`results` gave for so many networks, remembered.

        Raises:
            NotChecked: it raises; the check "metrics" tells why.
        """
        if ("judged", networks) not in self.memo:
            try:
                context = self.context(networks)
                results = self.results(context)
                numbers(results, self.protocol().metrics)  # all that is declared
                self.memo["judged", networks] = results
                self.memo["context", networks] = context
            except NotChecked:
                raise
            except (Exception, SystemExit) as error:
                self.memo["judged", networks] = error
        found = self.memo["judged", networks]
        if isinstance(found, BaseException):
            raise NotChecked("an evaluation raises: see the check 'metrics'")
        known: Results = found
        return known

    def product(self, context: EvaluationContext) -> Product:
        """Network 0, in training."""
        return self.protocol().train_on(
            context.samples,
            index=0,
            modality=context.modality,
            dataset=context.dataset,
            architecture=context.architecture,
            fusion=context.fusion,
            streams=context.streams,
            device=context.device,
            dtype=context.dtype,
        )

    def exercise(self, data: str = "data") -> Outcome:
        context = self.context(NETWORKS, data=data)
        found = numbers(self.results(context), self.protocol().metrics)
        product = self.product(context)
        for k in range(min(product.steps, TRAINING_STEPS)):
            product.step(k)
        return {**found, **{f"trained {name}": t.detach().clone() for name, t in product.tensors().items()}}


def numbers(results: Results, metrics: tuple[Metric, ...]) -> dict[str, Tensor]:
    """The declared metrics of all networks, by a name that tells network, metric and modality."""
    return {
        f"network {network['index']} {metric.name} {what}": torch.tensor(value, dtype=torch.float64)
        for network in results
        for metric in metrics
        for what, value in network[metric.name].items()
    }
