"""TensorBoard: losses while they fall, scores, and what was distilled to see and hear."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from avbench.api import RequestError, hookimpl, previews

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Scalars of every step, scores of every evaluation, pictures and sounds of every distilled set.

    Runs of TensorBoard are tasks: ``steps/KEY`` (written by the worker), and under their titles ``distil/…`` and
    ``evaluate/…``. Show them with ``tensorboard --logdir OUT/hooks/tensorboard``. Sounds take a second each to find: a
    thread of its own does that, so that the next job need not wait.

    Raises:
        RequestError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise RequestError(
                "hook 'tensorboard': TensorBoard is absent; pip install 'avbench[tensorboard]'."
            ) from None
        self._writer_of = SummaryWriter
        self._folder, self._data = Path(), Path()
        self._steps: dict[str, SummaryWriter] = {}
        self._shower = ThreadPoolExecutor(1, "tensorboard")
        self._shown: list[Future[None]] = []

    @hookimpl
    def process_started(self, folder: Path, data: Path) -> None:
        self._folder, self._data = folder, data

    @hookimpl
    def run_finished(self, interrupted: bool) -> None:
        self._shower.shutdown(cancel_futures=interrupted)

    @hookimpl
    def process_finished(self) -> None:
        for writer in self._steps.values():
            writer.close()
        self._steps.clear()
        for shown in self._shown:
            if not shown.cancelled():
                shown.result()  # raises what went wrong in the thread

    @hookimpl
    def step(self, task: str, step: int, metrics: Mapping[str, float]) -> None:
        if metrics and task not in self._steps:
            self._steps[task] = self._writer_of(str(self._folder / "steps" / task))
        for name, value in metrics.items():
            self._steps[task].add_scalar(name, value, step)

    @hookimpl
    def task_finished(self, kind: str, title: str, status: str, folder: Path | None) -> None:
        if status != "done" or folder is None or kind not in ("distil", "evaluate"):
            return
        plain = "".join(ch if ch.isalnum() or ch in "-_.=," else " " for ch in title.removeprefix("evaluate "))
        place = self._folder / kind / "_".join(plain.split())
        self._shown.append(self._shower.submit(self._show if kind == "distil" else self._score, place, folder))

    def _show(self, place: Path, folder: Path) -> None:
        """The pictures and sounds of a distilled set."""
        with self._writer_of(str(place)) as writer:
            for preview in previews(folder, self._data):
                if preview.picture is not None:
                    writer.add_image(preview.name, preview.picture, dataformats="HWC")
                if preview.sound is not None:
                    writer.add_audio(preview.name, preview.sound[None], sample_rate=preview.sample_rate_hz)

    def _score(self, place: Path, folder: Path) -> None:
        """Every metric of every network, at the network's index."""
        result = json.loads((folder / "record.json").read_text(encoding="utf-8"))["result"]
        with self._writer_of(str(place)) as writer:
            for network in result["networks"]:
                for metric in result["metrics"]:
                    for modality, value in network[metric["name"]].items():
                        writer.add_scalar(f"{metric['name']}/{modality}", value, network["index"])
