"""t-SNE of real and synthetic samples in both modalities (AVDD, Figs. 4, 6 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from avbench.data.samples import TensorSamples
from avbench.jobs import default_micro_batch
from avbench.protocols.network import Network
from avbench.show.networks import Trained, embeddings, every_row, judge_of, random_network, whole_data_network
from avbench.show.room import AbsentError, Room
from avbench.show.scale import Array
from avbench.show.style import COLOURS, INK, QUIET, WIDTH_IN, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: As many classes as AVDD's figures have; more than there are colours can't be told apart.
_USUAL_CLASSES, _MOST_CLASSES = 3, len(COLOURS)
_REAL_A_CLASS, _SYNTHETIC_A_CLASS = 100, 100
_COMPONENTS, _PERPLEXITY, _FEWEST = 50, 30.0, 5
#: More synthetic samples than these in a panel are drawn at half the size.
_CROWD = 30
_NAMES = {"a": "audio", "v": "visual"}
#: (marker, size in pt²) of real and synthetic samples.
_SIGNS = {("a", False): ("s", 7), ("v", False): ("o", 7), ("a", True): ("*", 60), ("v", True): ("^", 34)}


@dataclass(frozen=True)
class Points:
    """Samples of one modality: embeddings (N, D), class numbers (N,), and which of them are synthetic (N,)."""

    modality: str
    values: Array
    labels: np.typing.NDArray[np.int64]
    synthetic: np.typing.NDArray[np.bool_]


def hang_embeddings(room: Room) -> None:
    """A figure for each kind of network that was asked for.

    Raises:
        AbsentError: the store of the real samples is not at hand, or there are more classes than colours.
    """
    classes = room.first_classes(_USUAL_CLASSES)
    if len(classes) > _MOST_CLASSES:
        raise AbsentError(f"no more than {_MOST_CLASSES} classes can be told apart: choose fewer with --classes")
    store = room.store
    judge = judge_of(room.subject, store.info, "accuracy")
    for kind in room.options.networks:
        if kind == "random":
            drawn = random_network(room.subject, store.info, judge, room.options.seed, room.device)
            found = Trained(drawn, "randomly initialised")
        else:
            found = whole_data_network(room.subject, store, judge, room.device)
        points = _points(room, found.network, classes)
        figure = embedding_figure(points, room.names(classes), room.options.seed)
        real = int((~points[0].synthetic).sum())
        caption = (
            f"t-SNE of the embeddings of {real} real and {len(points[0].labels) - real} synthetic samples (decoded), "
            f"at most {_REAL_A_CLASS} real ones a class, drawn with seed {room.options.seed}. Networks: {found.origin} "
            f"({judge.by.architecture.label}). PCA to {_COMPONENTS} dimensions first; perplexity at most "
            f"{_PERPLEXITY:g}; each panel is a t-SNE of its own, and distances in one say nothing of the other."
        )
        room.hang("embeddings", f"Embeddings, {kind} networks", caption, [figure], f"embeddings-{kind}")


def _points(room: Room, network: Network, classes: Sequence[int]) -> list[Points]:
    """Embeddings of real and synthetic samples, modality by modality."""
    micro_batch = default_micro_batch(room.info)
    train = room.train_set()
    values: dict[str, list[torch.Tensor]] = {name: [] for name in room.modality}
    labels, synthetic = list[int](), list[bool]()
    for place, cls in enumerate(classes):
        rows = room.real_rows(cls, _REAL_A_CLASS)
        most = _SYNTHETIC_A_CLASS
        items = {name: t[:most] for name, t in room.items(room.subject.set, cls, most, decoded=True).items()}
        count = len(next(iter(items.values())))
        here = {name: t.to(room.device, room.subject.dtype) for name, t in items.items()}
        made = TensorSamples(here, torch.full((count,), cls))
        for samples, chosen in ((train, rows), (made, every_row(made))):
            found = embeddings(network, samples, chosen, room.modality, micro_batch)
            for name in room.modality:
                values[name].append(found[name].double())
        labels += [place] * (len(rows) + count)
        synthetic += [False] * len(rows) + [True] * count
    return [
        Points(name, torch.cat(values[name]).numpy(), np.array(labels), np.array(synthetic)) for name in room.modality
    ]


def reduce_to_plane(values: Array, seed: int) -> Array:
    """t-SNE of (N, D) to (N, 2), from PCA, the same for the same seed.

    Raises:
        AbsentError: there are too few points.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn's own dependency

    count = len(values)
    if count < _FEWEST:
        raise AbsentError(f"{count} points are too few for t-SNE, which needs {_FEWEST}")
    components = min(_COMPONENTS, count, values.shape[1])
    reduced = PCA(components, svd_solver="full").fit_transform(values)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    with threadpool_limits(1):  # threads that wait for each other made seconds of it minutes where cores are shared
        found: Array = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return found


def embedding_figure(points: Sequence[Points], names: Sequence[str], seed: int) -> Figure:
    """A panel a modality, and one of both where their embeddings have one size: it shows the gap between them."""
    panels = [(_NAMES[each.modality].capitalize(), [each]) for each in points]
    if len(points) == 2 and points[0].values.shape[1] == points[1].values.shape[1]:
        panels.append(("Both modalities", list(points)))
    columns = max(len(panels), 2)
    side_in = WIDTH_IN / columns
    figure = new_figure(side_in + 0.75)
    for number, (title, shown) in enumerate(panels):
        height_in = float(figure.get_figheight())
        place = (number / columns + 0.008, 0.55 / height_in, 1 / columns - 0.016, (side_in - 0.05) / height_in)
        axes = figure.add_axes(place)
        _draw_panel(axes, shown, seed)
        axes.set_title(title, pad=3)
    _legend(figure, [each.modality for each in points], names)
    return figure


def _draw_panel(axes: Axes, shown: Sequence[Points], seed: int) -> None:
    places = reduce_to_plane(np.concatenate([each.values for each in shown]), seed)
    start = 0
    for each in shown:
        own = places[start : start + len(each.labels)]
        start += len(each.labels)
        for synthetic in (False, True):
            marker, size = _SIGNS[each.modality, synthetic]
            if synthetic and each.synthetic.sum() > _CROWD:
                size //= 2
            for cls in range(int(each.labels.max()) + 1):
                at = own[(each.labels == cls) & (each.synthetic == synthetic)]
                dots = axes.scatter(at[:, 0], at[:, 1], s=size, c=COLOURS[cls], marker=marker)
                dots.set(alpha=0.95 if synthetic else 0.4, zorder=3 if synthetic else 2)
                dots.set_edgecolor(INK if synthetic else "none")
                dots.set_linewidth(0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    low, high = places.min(axis=0), places.max(axis=0)
    margin = 0.05 * (high - low) + 1e-9
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _legend(figure: Figure, modalities: Sequence[str], names: Sequence[str]) -> None:
    """Colours are classes, signs are modality and origin."""
    from matplotlib.lines import Line2D

    def sign(marker: str, colour: str, label: str, size: float, edge: str) -> Line2D:
        return Line2D(
            [], [], linestyle="", marker=marker, color=colour, label=label, markersize=size, markeredgecolor=edge
        )

    signs = [
        sign(
            marker,
            QUIET,
            f"{'synthetic' if synthetic else 'real'} {_NAMES[name]}",
            7 if synthetic else 3.5,
            INK if synthetic else QUIET,
        )
        for (name, synthetic), (marker, _) in _SIGNS.items()
        if name in modalities
    ]
    short = [name if len(name) <= 18 else name[:17] + "…" for name in names]
    classes = [sign("o", COLOURS[i], name, 5, COLOURS[i]) for i, name in enumerate(short)]
    height_in = float(figure.get_figheight())
    rows = ((signs, 0.4, 4), (classes, 0.16, min(len(classes), 4)))
    for handles, y, columns in rows:
        figure.legend(
            handles=handles,
            loc="center",
            bbox_to_anchor=(0.5, y / height_in),
            ncols=columns,
            handletextpad=0.1,
            columnspacing=0.9,
            borderpad=0.1,
        )
