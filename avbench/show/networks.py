"""The networks through which sets are looked at: random, trained on the whole data, or trained on the set itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from avbench.cells import Networks, PluginRef
from avbench.configure import check_protocol, configure_networks, reconstruct
from avbench.data.samples import Rows, Samples, TestSet, TrainSet
from avbench.data.store import Store, StoreInfo
from avbench.distilled import LearnedSet, SelectedSet
from avbench.errors import RequestError
from avbench.grammar import Variant
from avbench.jobs import default_micro_batch, prerequisite_key
from avbench.nets.fusion import Fusion
from avbench.plugin import Setting
from avbench.prerequisite import TrainedNetwork
from avbench.presets import preset
from avbench.protocols.base import EvaluationContext, Protocol, Weights
from avbench.protocols.network import Network
from avbench.randomness import Streams
from avbench.report.scores import Record, on_test
from avbench.show.subject import Subject
from avbench.tasks.prerequisites import read_tensors
from avbench.weights import kept_weights


@dataclass(frozen=True)
class Judge:
    """How a set was judged, or would be: references, and the record of it where there is one."""

    by: Networks
    record: Record | None = None

    @property
    def label(self) -> str:
        return f"{self.by.protocol.label}, {self.by.architecture.label}, {self.by.fusion.label}"

    @property
    def protocol(self) -> Protocol:
        return cast(Protocol, reconstruct("protocols", self.by.protocol).build())


@dataclass(frozen=True)
class Trained:
    """A network and how it came about."""

    network: Network
    origin: str


def setting_of(subject: Subject, info: StoreInfo) -> Setting:
    return Setting(info, subject.ipc, subject.set.modality, subject.preset)


def judge_of(subject: Subject, info: StoreInfo, metric: str, fallback: str = "") -> Judge:
    """How the run directory judged this very set by ``metric``, or how its preset would.

    Args:
        metric: the protocol's first: ``"accuracy"`` or ``"R@1"``.
        fallback: the protocol where there is no record; "" for the preset's.
    """
    records = subject.directory.records("evaluate") if subject.directory else iter(())
    for record in records:
        mine = record["status"] == "done" and record.get("set_hash") == subject.set.content_hash and on_test(record)
        if mine and record["result"]["primary"] == metric:
            parts = ("protocol", "evaluated_architecture", "fusion")
            return Judge(Networks(*(PluginRef(**record[part]) for part in parts)), record)
    chosen, setting = preset(subject.preset), setting_of(subject, info)
    protocol = Variant(fallback or chosen.protocol)
    by = configure_networks(protocol, Variant(chosen.architecture), Variant(chosen.fusion), {}, setting)
    if subject.record:
        by = Networks(by.protocol, PluginRef(**subject.record["architecture"]), by.fusion)
    check_protocol(by.protocol, setting)
    return Judge(by)


def random_network(subject: Subject, info: StoreInfo, judge: Judge, seed: int, device: torch.device) -> Network:
    """Encoders as they are drawn, of the architecture that judges."""
    return _network(subject, info, judge.by, Streams(seed), device)


def _network(
    subject: Subject,
    info: StoreInfo,
    by: Networks,
    streams: Streams,
    device: torch.device,
    fusion: Fusion | None = None,
) -> Network:
    architecture = reconstruct("architectures", by.architecture).build()
    head = fusion or reconstruct("fusions", by.fusion).build()
    return Network(info, subject.set.modality, architecture, head, streams, 0, device, subject.dtype)


def whole_data_network(subject: Subject, store: Store, judge: Judge, device: torch.device) -> Trained:
    """A network trained on all real training samples: the run directory's where it has one, else trained here."""
    network = _network(subject, store.info, judge.by, Streams(subject.seed), device)
    known = recall(subject, store.info, judge)
    if known is not None:
        network.load_weights(known)
        return Trained(network, "trained on the whole data by the run")
    work = judge.protocol.train_on(
        TrainSet(store, device, subject.dtype),
        index=0,
        modality=subject.set.modality,
        dataset=store.info,
        architecture=reconstruct("architectures", judge.by.architecture).build(),
        fusion=reconstruct("fusions", judge.by.fusion).build(),
        streams=Streams(subject.seed),
        device=device,
        dtype=subject.dtype,
    )
    for k in range(work.steps):
        work.step(k)
    network.load_weights(work.tensors())
    return Trained(network, "trained on the whole data for this page")


def recall(subject: Subject, info: StoreInfo, judge: Judge) -> Weights | None:
    """The weights of the network that the run trained on the whole data in this judge's way."""
    if subject.directory is None:
        return None
    precision = "float64" if subject.dtype == torch.float64 else "float32"
    identity = TrainedNetwork(0).identity()
    key = prerequisite_key(identity, info.fingerprint, subject.seed, subject.set.modality, precision, judge.by)
    if not subject.directory.done("prerequisite", key):
        return None
    return read_tensors(subject.directory.folder("prerequisite", key))


def set_network(
    subject: Subject, store: Store, judge: Judge, device: torch.device, fusion: Fusion | None = None
) -> tuple[Trained, Mapping[str, Any]]:
    """Network 0 of the set's evaluation, trained as that trains it, and the scores that it gets.

    Args:
        fusion: the head, where the protocol has one of its own.
    """
    info, kept = store.info, dict[str, Tensor]()
    train = TrainSet(store, device, subject.dtype)
    is_whole = isinstance(subject.set, SelectedSet) and torch.equal(subject.set.rows, torch.arange(info.size("train")))
    known = recall(subject, info, judge) if is_whole and fusion is None else None
    context = EvaluationContext(
        dataset=info,
        samples=subject.set.samples(train),
        test=TestSet(store, device, subject.dtype),
        modality=subject.set.modality,
        architecture=reconstruct("architectures", judge.by.architecture).build(),
        fusion=reconstruct("fusions", judge.by.fusion).build(),
        streams=Streams(subject.seed),
        networks=1,
        device=device,
        dtype=subject.dtype,
        micro_batch=default_micro_batch(info),
        step_size=subject.set.step_size if isinstance(subject.set, LearnedSet) else None,
        recall=lambda _: known,
        keep=lambda _, weights: kept.update(weights),
    )
    if subject.directory is not None:
        context = replace(context, given=partial(kept_weights, subject.directory))
    work = judge.protocol.evaluation(context)
    for k in range(work.steps):
        work.step(k)
    scores = work.result()["networks"][0]
    if known is None and not kept:
        raise RequestError(
            f"protocol {judge.by.protocol.label} hands out no trained weights, so there is none to show."
        )
    network = _network(subject, info, judge.by, Streams(subject.seed), device, fusion)
    network.load_weights(known if known is not None else kept)
    return Trained(network, "trained on the set"), scores


@torch.no_grad()
def predictions(network: Network, samples: Samples, rows: Rows, modality: str, micro_batch: int) -> dict[str, Tensor]:
    """What the head makes of ``rows``, on the CPU: (len(rows), C) probabilities, or what else the head predicts."""
    network.train(False)
    parts = [
        {k: t.cpu() for k, t in network.head.predict(network.embed(samples.batch(part, modality))).items()}
        for part in _parts(rows, micro_batch)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def embeddings(network: Network, samples: Samples, rows: Rows, modality: str, micro_batch: int) -> dict[str, Tensor]:
    """The embeddings (len(rows), D) of each modality, on the CPU."""
    network.train(False)
    parts = [network.embed(samples.batch(part, modality)) for part in _parts(rows, micro_batch)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in modality}


def _parts(rows: Rows, micro_batch: int) -> list[Rows]:
    return [rows[start : start + micro_batch] for start in range(0, len(rows), micro_batch)]


def every_row(samples: Samples) -> Rows:
    return np.arange(len(samples), dtype=np.int64)
