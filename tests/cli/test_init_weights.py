"""``--init-weights``: networks pretrained on one store judge sets of another, beside networks that start afresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from packages import avbench
from safetensors.torch import load_file
from typer.testing import CliRunner

from avbench.api import NoOptions, RequestError, Streams
from avbench.cli import app
from avbench.nets.fusion import Ensemble
from avbench.protocols.recognition import QuickConfig, RecognitionQuick
from avbench.tasks.prerequisites import keep_tensors

FAST = ("--networks", "2", "--preset", "quick", "--set", "convnet.width=4", "--seeds", "1")
FAST += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2")


@pytest.fixture(scope="module")
def pretrained(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on another store, kept as ``whole`` keeps it."""
    context = small.context()
    work = RecognitionQuick(QuickConfig(epochs=1, updates=2)).train_on(
        context.train,
        index=0,
        modality="av",
        dataset=context.setting.dataset,
        architecture=context.architecture,
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        device=small.CPU,
        dtype=torch.float32,
    )
    work.step(0)
    folder = tmp_path_factory.mktemp("runs") / "prerequisite" / "0a1b2c"
    keep_tensors(folder, work.tensors())
    return folder / "tensors.safetensors"


def in_process(*arguments: str) -> Result:
    """The command line without a process of its own: these commands end before anything is carried out."""
    return CliRunner().invoke(app, [*arguments])


def test_sets_are_judged_from_given_weights_and_the_same_content_is_never_judged_twice(
    small: Any, pretrained: Path, tmp_path: Path
) -> None:
    small.write("elsewhere", 1, seed=3)
    out = tmp_path / "runs"
    where = ("--data", str(small.data), "--out", str(out))
    run = ("run", "--method", "random", "--dataset", "elsewhere", "--ipc", "1", *FAST, *where)
    done = avbench(*run, "--init-weights", str(pretrained))
    assert done.returncode == 0, done.stderr
    (record,) = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("evaluate/*/record.json")]
    key = record["protocol"]["options"]["init_weights"]
    assert record["result"]["init_weights"] == {"key": key, "modalities": "av"}
    about = json.loads((out / "weights" / f"{key}.json").read_text(encoding="utf-8"))
    assert about["file"] == pretrained.name and about["modalities"] == "av"

    torch.save(dict(load_file(pretrained)), tmp_path / "copy.pt")
    both = f'recognition-quick,recognition-quick[init_weights="{tmp_path / "copy.pt"}"]'
    planned = json.loads(in_process(*run, "--protocol", both, "--dry-run", "--json").stdout)
    assert planned["counts"]["to do"] == 1  # from drawn weights; the set and the other way to judge it are there

    (made,) = out.glob("distil/*")
    options = [part for part in FAST if part not in ("--seeds", "1")]
    judged = in_process(
        *("evaluate", str(made), "--dataset", "elsewhere", "--init-weights", str(tmp_path / "copy.pt"), "--json"),
        *(*options, *where),
    )
    assert judged.exit_code == 0 and "0 to do" in judged.stderr
    (row,) = json.loads(judged.stdout)["boards"][0]["rows"]
    assert row["n"] == 2


def test_a_file_of_one_modality_is_used_and_said(small: Any, pretrained: Path, tmp_path: Path) -> None:
    audio = {name: t for name, t in load_file(pretrained).items() if name.startswith("a.")}
    torch.save(audio, tmp_path / "audio.pt")
    done = in_process(
        *("run", "--method", "random", "--dataset", "small1", "--ipc", "1", *FAST, "--dry-run"),
        *("--init-weights", str(tmp_path / "audio.pt"), "--data", str(small.data), "--out", str(tmp_path / "runs")),
    )
    assert done.exit_code == 0
    assert "weights of 'a' alone; the encoder of 'v' is drawn" in done.stderr
    assert not (tmp_path / "runs").exists()  # a dry run writes nothing


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--init-weights", "nothing.pt"), "no such file"),
        (("--arch", "lenet"), "do not fit lenet on small1"),
        (("--dataset", "small3"), "v.layers.0.weight is [4, 1, 3, 3], here [4, 3, 3, 3]"),
        (("--set", "recognition-quick.init_weights=w.pt"), "say --init-weights"),
    ],
)
def test_weights_that_can_t_be_used_are_refused_in_one_line_before_anything_is_made(
    small: Any, pretrained: Path, tmp_path: Path, changed: tuple[str, str], words: str
) -> None:
    options = {"--dataset": "small1", "--init-weights": str(pretrained), "--out": str(tmp_path / "runs")}
    options |= {"--method": "random", "--ipc": "1", "--preset": "quick", "--data": str(small.data)} | dict([changed])
    width = () if changed[0] == "--arch" else ("--set", "convnet.width=4")
    done = in_process("run", *width, *(part for pair in options.items() for part in pair))
    assert isinstance(done.exception, RequestError) and done.exception.exit_status == 2
    assert words in str(done.exception) and "\n" not in str(done.exception)
    assert not (tmp_path / "runs").exists()
