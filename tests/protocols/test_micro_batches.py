"""Test-set passes in batches of any size: they change no prediction of any architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.api import NoOptions, Streams, TestSet
from avbench.configure import configure
from avbench.grammar import parse_variants
from avbench.nets.fusion import Ensemble
from avbench.plugin import Setting
from avbench.protocols.network import Network

CPU = torch.device("cpu")
#: With batch norm too: in a test pass it uses its running statistics, so samples do not meet.
NAMES = ["convnet", "lenet", "alexnet", "vgg11", "vgg11[norm=batch]", "resnet18", "resnet18[norm=batch]"]
NAMES += ["timm/mobilenetv3_small_050"]


def predictions(small: Any, network: Network, micro_batch: int) -> dict[str, Tensor]:
    """Probabilities (N, C) of the whole test split, as an evaluation gathers them."""
    test, found = TestSet(small.stores[3], CPU), []
    with torch.no_grad():
        for start in range(0, len(test), micro_batch):
            rows = np.arange(start, min(start + micro_batch, len(test)))
            found.append(network.head.predict(network.embed(test.batch(rows, "av"))))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


@pytest.mark.parametrize("name", NAMES)
def test_no_prediction_depends_on_the_batches_of_the_test_pass(small: Any, name: str) -> None:
    info = small.stores[3].info
    (variant,) = parse_variants(name, "--arch")
    architecture = configure("architectures", variant, {}, Setting(info, 1, "av", "quick")).build()
    network = Network(info, "av", architecture, Ensemble(NoOptions()), Streams(0), 0, CPU, torch.float32)
    network.train(False)
    whole = predictions(small, network, 256)
    assert set(whole) == {"a", "v", "av"}
    for micro_batch in (1, 7):
        cut = predictions(small, network, micro_batch)
        for scored, p in whole.items():
            assert torch.equal(cut[scored].argmax(dim=1), p.argmax(dim=1)), (micro_batch, scored)
            torch.testing.assert_close(cut[scored], p, rtol=1e-5, atol=1e-6)


def test_the_convnet_embeds_with_the_same_bits_in_batches_of_any_size(small: Any) -> None:
    info, test = small.stores[3].info, TestSet(small.stores[3], CPU)
    network = Network(info, "av", small.architecture(16), Ensemble(NoOptions()), Streams(0), 0, CPU, torch.float32)
    network.train(False)
    rows = np.arange(len(test))
    with torch.no_grad():
        whole = network.embed(test.batch(rows, "av"))
        for micro_batch in (1, 7):
            parts = [network.embed(test.batch(cut, "av")) for cut in np.split(rows, rows[micro_batch::micro_batch])]
            assert all(torch.equal(torch.cat([part[name] for part in parts]), z) for name, z in whole.items())
