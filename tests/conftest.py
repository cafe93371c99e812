"""Fixtures that several test modules share."""

from __future__ import annotations

import os

# Small tensors gain nothing from threads, which are slow where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from once import made_once

from avbench.api import Architecture, Context, Method, Setting, Store, StoreInfo, StoreWriter, Streams, TrainSet
from avbench.dataset import NoOptions, PrepareContext
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench.options import resolve
from avbench_methods.avdd import AudioVisualDistillation
from avbench_methods.dm import DistributionMatching


@pytest.fixture(scope="session")
def avdigits_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the store ``avdigits``, built once in a test run. Read only: copy it to change it."""
    pytest.importorskip("espeakng_loader", reason="avdigits is built with the extra `speech`")
    from avbench_datasets.avdigits import AVDigits

    def make(data: Path) -> None:
        AVDigits(NoOptions()).prepare(PrepareContext(data, "avdigits", None, lambda done, total, what: None))

    return made_once(tmp_path_factory, "avdigits-data", make)


class Small:
    """Tiny stores, and methods on them without the command line.

    Four classes of uneven size; audio (1, 16, 24), frames (1 or 3, 16, 16), two ConvNet blocks, grid (4, 4).
    """

    COUNTS: ClassVar[dict[str, tuple[int, ...]]] = {
        "train": (9, 12, 5, 10),
        "val": (2, 2, 2, 2),
        "test": (5, 5, 4, 6),
    }
    CPU = torch.device("cpu")

    def __init__(self, data: Path) -> None:
        self.data = data
        self.stores = {channels: self.write(f"small{channels}", channels) for channels in (1, 3)}

    def write(self, name: str, channels: int, seed: int = 0, noise: float = 1.0) -> Store:
        """A store whose classes are fixed patterns under noise."""
        info = StoreInfo(
            name=name,
            dataset="small",
            dataset_version=1,
            classes=("ant", "bee", "cat", "dog"),
            counts=self.COUNTS,
            audio_shape=(1, 16, 24),
            frame_shape=(channels, 16, 16),
            audio_mean=-40.0,
            audio_std=15.0,
            frame_mean=(0.5, 0.4, 0.3)[:channels],
            frame_std=(0.25, 0.2, 0.3)[:channels],
            visual_depth=2,
            audio_depth=2,
            grid=(4, 4),
            preset="quick",
            sample_rate_hz=8000,
            audio_transform={},
            licence="CC0-1.0",
            citation="",
        )
        rng = np.random.default_rng([seed, channels])
        audio = rng.normal(size=(4, *info.audio_shape))
        frames = rng.normal(size=(4, *info.frame_shape))
        writer = StoreWriter(self.data, info)
        for split, counts in info.counts.items():
            for row, cls in enumerate(np.repeat(np.arange(4), counts)):
                sound = -40 + 15 * (audio[cls] + noise * rng.normal(size=info.audio_shape))
                image = 120 + 50 * (frames[cls] + noise * rng.normal(size=info.frame_shape))
                pixels = image.clip(0, 255).astype(np.uint8)
                writer.put(split, row, sound.astype(np.float32), pixels, f"{split}{row}")
        return writer.finish()

    def architecture(self, width: int = 4) -> ConvNetArchitecture:
        return ConvNetArchitecture(ConvNetConfig(width=width))

    def context(
        self,
        *,
        ipc: int = 2,
        modality: str = "av",
        channels: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        micro_batch: int = 256,
        classes: tuple[int, ...] = (0, 1, 2, 3),
        store: Store | None = None,
        architecture: Architecture | None = None,
        preset: str = "paper",
    ) -> Context:
        store = store or self.stores[channels]
        train = TrainSet(store, self.CPU, dtype)
        return Context(
            setting=Setting(store.info, ipc, modality, preset),
            train=train,
            streams=Streams(seed),
            architecture=architecture or self.architecture(),
            prerequisites={},
            device=self.CPU,
            dtype=dtype,
            micro_batch=micro_batch,
            classes=classes,
        )

    def method(self, name: str, context: Context, **options: Any) -> Method:
        """``dm`` or ``avdd`` with few real samples and herding on random features, unless told otherwise."""
        method = {"dm": DistributionMatching, "avdd": AudioVisualDistillation}[name]
        given = {"features": "random", "batch_real": 6, **options}
        layers = [(method.defaults(context.setting), "published"), (given, "test")]
        config = resolve(method.Config, name, layers).config
        method.check(config, context.setting)
        return method(config, context)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    torch.set_num_threads(1)
    return Small(tmp_path_factory.mktemp("small"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Under CI a skip is a failure: what the tests need is installed there, and silence would hide that it is not."""
    outcome = yield
    report = outcome.get_result()
    optional = any(item.get_closest_marker(name) for name in ("optional_data", "privileged"))
    if report.skipped and os.environ.get("CI") == "true" and not (optional or hasattr(report, "wasxfail")):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"
