"""Networks that start from given weights: what is read, what is compared, what is trained from it."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from avbench.api import EvaluationContext, NoOptions, Streams, TestSet
from avbench.cells import PluginRef
from avbench.errors import RequestError
from avbench.nets.fusion import Ensemble
from avbench.protocols.recognition import Recognition, RecognitionConfig
from avbench.protocols.retrieval import Retrieval, RetrievalConfig
from avbench.results import RunDirectory
from avbench.weights import check_fits, content_hash, keep_weights, kept_weights, read_weights

CPU = torch.device("cpu")
KEY = "0123456789abcdef0123"


def convnet(width: int = 4) -> PluginRef:
    return PluginRef("convnet", f"convnet[width={width}]", 1, "avbench", "", {"width": width}, {})


@pytest.fixture
def encoders(small: Any) -> dict[str, Tensor]:
    """Weights of both encoders and of a head for other classes, as a trained network of a run has them."""
    torch.manual_seed(7)
    architecture, info = small.architecture(), small.stores[1].info
    found = {f"{m}.{k}": t for m in "av" for k, t in architecture.build(info, m).state_dict().items()}
    return {**found, "head.heads.a.weight": torch.randn(9, 64)}


def safetensors(folder: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "theirs.safetensors")
    return folder / "theirs.safetensors"


def parts(tensors: dict[str, Tensor], modality: str) -> dict[str, Tensor]:
    return {k[2:]: t for k, t in tensors.items() if k.startswith(f"{modality}.")}


def test_content_alone_is_the_key_whatever_the_file(encoders: dict, tmp_path: Path) -> None:
    torch.save(dict(reversed(encoders.items())), tmp_path / "a.pt")
    torch.save({"epoch": 3, "a": parts(encoders, "a"), "v": parts(encoders, "v")}, tmp_path / "nested.pth")
    (tmp_path / "KEY").mkdir()
    save_file(encoders, tmp_path / "KEY" / "tensors.safetensors")
    files = [safetensors(tmp_path, encoders), tmp_path / "a.pt", tmp_path / "nested.pth", tmp_path / "KEY"]
    read = [read_weights(file) for file in files]
    assert len({each.key for each in read}) == 1
    assert all(each.modalities == "av" and not any("head" in name for name in each.tensors) for each in read)
    encoders["a.layers.0.bias"][0] += 1e-6
    assert read_weights(safetensors(tmp_path, encoders)).key != read[0].key


class Malicious:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def test_a_pickle_with_code_in_it_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a.x": Malicious()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a.x": Malicious()}))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(RequestError, match="refused"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_truncated_file_is_refused(encoders: dict, tmp_path: Path, suffix: str) -> None:
    file = safetensors(tmp_path, encoders)
    if suffix == "pt":
        file = tmp_path / "theirs.pt"
        torch.save(encoders, file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(RequestError, match=r"can't be (read|loaded)"):
        read_weights(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"layers.0.weight": torch.ones(2), "fc": torch.ones(1)}, "no tensor is named 'a.…'.*fc, layers.0.weight"),
        (torch.ones(3), "holds Tensor, expected named tensors"),
        ({}, "it holds none"),
        ({"a.x": torch.tensor([1.0, float("nan")]), "v.y": torch.ones(2)}, "not finite numbers in a.x"),
        ({"a.x": torch.ones(2, dtype=torch.complex64)}, "plain real tensors, not a.x"),
    ],
)
def test_files_without_usable_encoders_are_refused(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(RequestError, match=words):
        read_weights(tmp_path / "odd.pt")


def test_what_is_absent_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        read_weights(tmp_path / "nothing.pt")
    with pytest.raises(RequestError, match=r"holds no tensors\.safetensors"):
        read_weights(tmp_path)


def test_every_parameter_that_differs_is_explained(small: Any, encoders: dict, tmp_path: Path) -> None:
    info = small.stores[1].info
    given = read_weights(safetensors(tmp_path, encoders))
    assert check_fits(given, convnet(), info, "av") == "av"
    with pytest.raises(RequestError) as wide:
        check_fits(given, convnet(8), info, "av")
    assert "(16 parameters differ)" in str(wide.value) and "; and 6 more" in str(wide.value)
    assert "a.layers.0.weight is [4, 1, 3, 3], here [8, 1, 3, 3]" in str(wide.value)
    other = {k: t for k, t in encoders.items() if k != "v.layers.4.bias"} | {"v.extra": torch.ones(2)}
    with pytest.raises(RequestError, match=r"2 parameters.*v.layers.4.bias \[4\] is missing; v.extra \[2\] is unexp"):
        check_fits(read_weights(safetensors(tmp_path, other)), convnet(), info, "av")
    with pytest.raises(RequestError, match="do not fit lenet on small1"):
        check_fits(given, PluginRef("lenet", "lenet", 1, "avbench", "", {}, {}), info, "av")


def test_a_modality_that_the_file_lacks_is_drawn_but_one_must_be_there(
    small: Any, encoders: dict, tmp_path: Path
) -> None:
    info = small.stores[1].info
    audio = read_weights(safetensors(tmp_path, {k: t for k, t in encoders.items() if k.startswith("a.")}))
    assert check_fits(audio, convnet(), info, "av") == "a"
    with pytest.raises(RequestError, match="'a' alone, the networks are judged in 'v'"):
        check_fits(audio, convnet(), info, "v")


def test_kept_weights_come_back_and_altered_ones_are_refused(encoders: dict, tmp_path: Path) -> None:
    given, directory = read_weights(safetensors(tmp_path, encoders)), RunDirectory(tmp_path / "runs")
    keep_weights(given, directory)
    found = kept_weights(directory, given.key)
    assert content_hash(found) == given.key and set(found) == set(given.tensors)
    file = tmp_path / "runs" / "weights" / f"{given.key}.safetensors"
    save_file({**found, "a.layers.0.bias": torch.zeros(4)}, file)
    with pytest.raises(RequestError, match="altered"):
        kept_weights(directory, given.key)
    file.unlink()
    with pytest.raises(RequestError, match="again"):
        kept_weights(directory, given.key)


def context(small: Any, given: dict[str, Tensor], **changes: Any) -> EvaluationContext:
    made = small.context()
    found = EvaluationContext(
        dataset=made.setting.dataset,
        samples=made.train,
        test=TestSet(small.stores[1], CPU),
        modality="av",
        architecture=made.architecture,
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        networks=2,
        device=CPU,
        dtype=torch.float32,
        micro_batch=256,
        given=lambda key: {KEY: given}[key],
    )
    return replace(found, **changes)


@pytest.mark.parametrize("protocol", [(Recognition, RecognitionConfig), (Retrieval, RetrievalConfig)])
def test_all_networks_start_from_the_given_encoders_and_differ_in_head_and_order(
    small: Any, encoders: dict, monkeypatch: pytest.MonkeyPatch, protocol: Any
) -> None:
    target, config = protocol
    starts: list[dict[str, Tensor]] = []
    work = target(config(epochs=1, init_weights=KEY)).evaluation(context(small, encoders))
    own = work._train
    monkeypatch.setattr(
        work, "_train", lambda n: starts.append({k: t.clone() for k, t in n.weights().items()}) or own(n)
    )
    work.step(0)
    work.step(1)
    for name, given in encoders.items():
        assert name.startswith("head") or all(torch.equal(start[name], given) for start in starts)
    heads = [[t for k, t in start.items() if k.startswith("head") and "weight" in k] for start in starts]
    assert not torch.equal(heads[0][0], heads[1][0])
    result = work.result()
    assert result["init_weights"] == {"key": KEY, "modalities": "av"}
    assert len({network["train_loss"] for network in result["networks"]}) == 2


def test_a_modality_without_weights_starts_as_it_does_without_the_file(small: Any, encoders: dict) -> None:
    audio = {k: t for k, t in encoders.items() if k.startswith("a.")}
    plain = Recognition(RecognitionConfig(epochs=1)).evaluation(context(small, {}, networks=1))
    given = Recognition(RecognitionConfig(epochs=1, init_weights=KEY)).evaluation(context(small, audio, networks=1))
    for work in (plain, given):
        work.step(0)
    (drawn,), (started,) = plain.result()["networks"], given.result()["networks"]
    assert drawn["accuracy"]["v"] == started["accuracy"]["v"] and drawn["train_loss"] != started["train_loss"]
    assert given.result()["init_weights"]["modalities"] == "a" and "init_weights" not in plain.result()


def test_a_resumed_evaluation_from_given_weights_ends_the_same(small: Any, encoders: dict) -> None:
    def start() -> Any:
        return Recognition(RecognitionConfig(epochs=2, init_weights=KEY)).evaluation(context(small, encoders))

    whole, killed, resumed = start(), start(), start()
    for k in range(4):
        whole.step(k)
    for k in range(3):
        killed.step(k)
    resumed.load_state(killed.state())
    resumed.step(3)
    assert resumed.result() == whole.result()


def test_a_prerequisite_never_starts_from_given_weights(small: Any) -> None:
    c = context(small, {})
    with pytest.raises(RequestError, match="judging alone"):
        Recognition(RecognitionConfig(init_weights=KEY)).train_on(
            c.samples,
            index=0,
            modality="av",
            dataset=c.dataset,
            architecture=c.architecture,
            fusion=c.fusion,
            streams=c.streams,
            device=CPU,
            dtype=torch.float32,
        )
