"""Curves: the loss while a set was distilled, and what snapshots were worth (AVDD, Fig. 10)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from avbench.cells import configuration
from avbench.report.curves import learning_curves
from avbench.show.room import Room
from avbench.show.scale import Array
from avbench.show.style import COLOURS, DASHES, MARKERS, WIDTH_IN, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A curve of more steps is smoothed by a mean over this share of them; the raw one stays visible.
_SMOOTH_FROM, _WINDOW_SHARE = 100, 0.02
_PARTS = {"a": "audio", "v": "visual", "av": "audio-visual"}


def hang_curves(room: Room) -> None:
    """The set's loss curve, and its method's learning curves where snapshots were judged."""
    subject = room.subject
    made = subject.directory.set_folder(subject.record["key"]) if subject.directory and subject.record else None
    metrics = read_curve(made / "curve.jsonl") if made else {}
    if metrics:
        title, caption = "Distillation loss", "What the method logged at each step of distilling."
        if max(len(steps) for steps, _ in metrics.values()) > _SMOOTH_FROM:
            caption += f" Pale: each step; strong: the mean over {_WINDOW_SHARE:.0%} of the steps."
        room.hang("curves", title, caption, [loss_figure(metrics)], "loss")
    else:
        room.miss("curves", "there is no loss curve: the set was not distilled in steps by a run beside it")
    frame = _judged(room)
    if frame is None:
        room.miss("curves", "no snapshot of it was judged: avbench run --snapshots 0,50,… keeps and judges them")
        return
    caption = (
        "Test accuracy of networks trained on the set as it was after so many steps: mean over seeds and networks, "
        "with one standard deviation."
    )
    for number, (judged_by, part) in enumerate(frame.groupby("judged_by", sort=True), 1):
        by = str(judged_by).replace(" · ", ", ")
        room.hang(
            "curves", "Learning curves", f"{caption} Judged by {by}.", [learning_figure(part)], f"learning-{number}"
        )


def read_curve(path: Path) -> dict[str, tuple[Array, Array]]:
    """By metric, (steps, values) of a ``curve.jsonl``; a torn or foreign line is left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    for line in lines:
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
            pairs = [(name, float(value)) for name, value in values.items()]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in pairs:
            if math.isfinite(value):
                found.setdefault(name, []).append((step, value))
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in found.items()}


def loss_figure(metrics: Mapping[str, tuple[Array, Array]]) -> Figure:
    """What was logged over the steps, each metric in a panel of its own."""
    names = sorted(metrics)[:6]
    figure = new_figure(0.6 + 1.35 * len(names), WIDTH_IN * 0.75)
    for number, name in enumerate(names):
        axes = figure.add_subplot(len(names), 1, number + 1)
        steps, values = metrics[name]
        long = len(values) > _SMOOTH_FROM
        axes.plot(steps, values, color=COLOURS[0], alpha=0.3 if long else 1.0, linewidth=0.6 if long else 1.2)
        if long:
            width = max(3, int(len(values) * _WINDOW_SHARE))
            smooth = pd.Series(values).rolling(width, center=True, min_periods=1).mean()
            axes.plot(steps, smooth, color=COLOURS[0])
        if values.min() > 0 and values.max() / values.min() > 30:
            axes.set_yscale("log")
        axes.set_ylabel(name)
        axes.grid(True, color="#dde1e6", linewidth=0.5)
        axes.set_axisbelow(True)
    axes.set_xlabel("step")
    figure.tight_layout(pad=0.4)
    return figure


def _judged(room: Room) -> pd.DataFrame | None:
    """The rows of the board's learning curves that are of this set's method, dataset and IPC."""
    subject = room.subject
    if subject.directory is None or subject.record is None:
        return None
    frame = learning_curves([subject.directory])
    if frame.empty:
        return None
    mine = (
        (frame["fingerprint"] == room.info.fingerprint)
        & (frame["ipc"] == subject.ipc)
        & (frame["modality"] == room.modality)
        & (frame["identity"] == configuration(subject.record["method"]))
        & (frame["distiller"] == configuration(subject.record["architecture"]))
        & (frame["precision"] == subject.record["precision"])
    )
    return frame[mine] if mine.any() else None


def learning_figure(frame: pd.DataFrame) -> Figure:
    """Scores in percent over steps, a line a part."""
    figure = new_figure(2.3, WIDTH_IN * 0.75)
    axes = figure.add_subplot(1, 1, 1)
    shares = bool(frame["mean"].between(0, 1).all())
    scale = 100.0 if shares else 1.0
    parts: Sequence[Any] = sorted(
        frame["part"].unique(), key=lambda p: (list(_PARTS).index(p) if p in _PARTS else 9, p)
    )
    for number, part in enumerate(parts):
        rows = frame[frame["part"] == part].sort_values("step")
        steps, mean, std = (rows[name].to_numpy(dtype=float) for name in ("step", "mean", "std"))
        look = number % len(COLOURS)
        label = _PARTS.get(str(part), str(part))
        (line,) = axes.plot(steps, scale * mean, color=COLOURS[look], marker=MARKERS[look], markersize=3.5, label=label)
        line.set_linestyle(cast(Any, DASHES[look]))
        low, high = scale * (mean - std), scale * (mean + std)
        axes.fill_between(steps, low, high, color=COLOURS[look], alpha=0.15, linewidth=0)
    axes.set_xlabel("distillation step")
    axes.set_ylabel("test accuracy (%)" if shares else "score")
    axes.grid(True, color="#dde1e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="best")
    figure.tight_layout(pad=0.4)
    return figure
