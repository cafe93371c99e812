"""``avbench show``: a page whose pictures and sounds are there, say what they are, and agree with the run's records."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from packages import avbench
from typer.testing import CliRunner

from avbench.api import LogMel, StoreWriter
from avbench.cli import app
from avbench.distilled import load
from avbench.errors import RequestError
from avbench.show.beginning import beginning
from avbench.show.gallery import KINDS, Shown, show
from avbench.show.room import Options, Room
from avbench.show.style import WIDTH_IN
from avbench.show.subject import Filter, own_sets

pytest.importorskip("matplotlib", reason="figures need the extra `report`")

MEL = LogMel(sample_rate_hz=8000, samples=4600, mels=16)
CLASSES = ("Violin, fiddle", "a/b <i>loud</i>", "cost $x_1$", "dog")
METHODS = "random,dm[factor=2]"
RUN = ("run", "--method", METHODS, "--dataset", "odd", "--ipc", "1", "--seeds", "2", "--networks", "1")
RUN += ("--set", "dm.steps=3", "--set", "dm.batch_real=4", "--set", "convnet.width=4", "--preset", "quick")
RUN += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2", "--snapshots", "0")


@pytest.fixture(scope="module")
def data(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a real log-mel transform and names of classes that try to break out."""
    folder = tmp_path_factory.mktemp("odd")
    source = small.stores[3]
    info = replace(source.info, name="odd", classes=CLASSES, audio_transform=MEL.as_json(), fingerprint="")
    writer = StoreWriter(folder, info)
    for split in info.counts:
        for row in range(info.size(split)):
            writer.put(split, row, source.audio[split][row], source.frames[split][row], f"{split}{row}")
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("show") / "runs"
    done = avbench(*RUN, "--data", str(data), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def shown(run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """All kinds of exhibits of both methods."""
    options = Options(data=data, networks=("random", "trained"), dpi=60, per_class=2)
    return show(own_sets(run, Filter()), options, tuple(KINDS), tmp_path_factory.mktemp("shown") / "page")


def exhibits(shown: Shown, method: str) -> dict[str, Any]:
    (room,) = [room for room in shown.rooms if room.subject.name.startswith(method)]
    return {each.title: each for each in room.exhibits}


def set_of(run: Path, method: str) -> Path:
    for path in sorted(run.glob("distil/*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["method"]["name"] == method and record["seed"] == 0:
            return path.parent
    raise AssertionError(method)


def texts(svg: Path) -> Iterator[tuple[str, str]]:
    """(text, style) of all text in a figure."""
    for each in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text"):
        yield "".join(each.itertext()), each.get("style", "")


def test_each_method_is_shown_once_in_all_its_kinds(shown: Shown) -> None:
    assert [room.subject.seed for room in shown.rooms] == [0, 0]
    common = {"Embeddings, random networks", "Embeddings, trained networks", "Confusion on the test split", "Sound"}
    common |= {"Sounds find pictures", "Pictures find sounds"}
    assert set(exhibits(shown, "random")) == common | {"Frames", "Spectrograms"}
    views = {f"{what}, {how}" for what in ("Frames", "Spectrograms") for how in ("as stored", "decoded")}
    assert set(exhibits(shown, "dm")) == common | views | {"Distillation loss", "Learning curves"}
    reasons = [f"{name}: {each.reason}" for name, each in shown.missing]
    assert all(reason.startswith("random") for reason in reasons)
    assert any("selected, not distilled" in reason for reason in reasons)


def test_all_that_the_page_names_is_there_and_names_of_classes_are_text(shown: Shown) -> None:
    page = shown.index.read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert len(links) > 50
    assert not [link for link in links if not (shown.index.parent / unquote(link)).is_file()]
    files = {path for path in shown.index.parent.glob("*/*") if path.is_file()}
    assert files == {shown.index.parent / unquote(link) for link in links}
    assert "<i>" not in page and "a/b &lt;i&gt;loud&lt;/i&gt;" in page


def test_figures_are_of_paper_width_with_letters_of_seven_points_at_least(shown: Shown) -> None:
    seen = set[str]()
    for svg in shown.index.parent.glob("*/*.svg"):
        assert float(ElementTree.parse(svg).getroot().get("width", "0").removesuffix("pt")) <= WIDTH_IN * 72 + 0.1
        assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        for text, style in texts(svg):
            seen.add(text)
            (size,) = re.findall(r"(?:font-size: |font: )([\d.]+)px", style)
            assert float(size) >= 7, (svg.name, text)
    assert {"dB", "Hz", "s", "before", "distilled", "cost $x_1$"} <= seen


def test_confusion_is_of_the_very_network_that_the_run_scored(shown: Shown, run: Path) -> None:
    for method in ("dm", "random"):
        (record,) = [
            record
            for path in run.glob("evaluate/*/record.json")
            if (record := json.loads(path.read_text(encoding="utf-8")))["set_hash"]
            == load(set_of(run, method)).content_hash
        ]
        caption = exhibits(shown, method)["Confusion on the test split"].caption
        accuracy = record["result"]["networks"][0]["accuracy"]
        assert f"audio-visual {accuracy['av']:.1%}" in caption and f"audio {accuracy['a']:.1%}" in caption
        assert "as the run recorded it" in caption


def test_sounds_are_those_of_the_transform_with_a_real_one_beside_each_class(shown: Shown) -> None:
    rows = exhibits(shown, "dm")["Sound"].clips
    assert [name for name, _ in rows] == list(CLASSES)
    for _, clips in rows:
        assert [clip.label.split(",")[0] for clip in clips] == ["learned 1", "learned 2", "real"]
        for clip in clips:
            assert (shown.index.parent / clip.file).stat().st_size == 44 + 2 * MEL.samples


def test_before_is_the_snapshot_of_step_0_and_made_again_is_the_same(run: Path, data: Path, tmp_path: Path) -> None:
    (subject,) = own_sets(set_of(run, "dm"), Filter())
    kept, origin = beginning(Room(subject, Options(data), tmp_path))
    assert origin == "the snapshot of step 0"
    assert subject.record is not None
    forgetful = {**subject.record, "result": {**subject.record["result"], "snapshots": {}}}
    again, origin = beginning(Room(replace(subject, record=forgetful), Options(data), tmp_path))
    assert origin.startswith("made again")
    assert again.content_hash == kept.content_hash != subject.set.content_hash


def test_without_the_store_a_learned_set_still_shows_itself_and_a_selected_one_says_why_not(
    run: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(set_of(run, "dm"), alone, ignore=shutil.ignore_patterns("record.json"))
    found = show(own_sets(alone, Filter()), Options(tmp_path, dpi=50), tuple(KINDS), tmp_path / "page")
    assert {each.kind for each in found.rooms[0].exhibits} == {"frames", "sound"}
    reasons = {(each.kind, each.reason) for _, each in found.missing}
    assert {kind for kind, _ in reasons} == set(KINDS)
    assert any("give its folder with --data" in reason for kind, reason in reasons if kind == "confusion")
    page = found.index.read_text(encoding="utf-8")
    assert "which is not under" in page
    selected = own_sets(set_of(run, "random"), Filter())
    with pytest.raises(RequestError, match=r"nothing can be shown: .*the store 'odd'"):
        show(selected, Options(tmp_path), ("frames", "sound"), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_snapshot_is_shown_with_the_curve_of_its_run(run: Path, data: Path, tmp_path: Path) -> None:
    (subject,) = own_sets(set_of(run, "dm") / "snapshots" / "0", Filter())
    assert subject.name.endswith("after step 0")
    (room,) = show([subject], Options(data, dpi=50), ("curves",), tmp_path / "page").rooms
    assert [each.title for each in room.exhibits] == ["Distillation loss", "Learning curves"]


def test_a_set_in_a_layout_from_elsewhere_is_shown_for_the_store_that_is_named(
    run: Path, data: Path, tmp_path: Path
) -> None:
    given = load(set_of(run, "dm"))
    items = {"audio": given.items["a"], "frames": given.items["v"]}  # type: ignore[attr-defined]
    np.savez(tmp_path / "theirs.npz", labels=given.labels.numpy(), **items)
    command = [
        "show",
        str(tmp_path / "theirs.npz"),
        "-o",
        str(tmp_path / "page"),
        "--what",
        "sound",
        "--data",
        str(data),
    ]
    done = CliRunner().invoke(app, [*command, "--dataset", "odd", "--factor", "2", "--classes", '"Violin, fiddle",dog'])
    assert done.exit_code == 0, done.output
    assert "1 sets, 0 figures, 8 sounds" in done.stdout
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, RequestError) and "--dataset NAME" in str(refused.exception)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--classes", "dogs"), "did you mean 'dog'"),
        (("--what", "frame"), "did you mean 'frames'"),
        (("--networks", "whole"), "--networks 'whole'"),
        (("--method", "avdd"), "there are: "),
        (("--seeds", "x"), "--seeds 'x'"),
        (("--device", "tpu"), "--device 'tpu'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_written(
    run: Path, data: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    command = ["show", str(run), "-o", str(tmp_path / "page"), "--data", str(data), *options]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, RequestError) and words in str(done.exception)
    assert not (tmp_path / "page").exists()


def test_what_holds_no_set_or_a_damaged_one_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "distil").mkdir(parents=True)
    broken = tmp_path / "broken"
    shutil.copytree(set_of(run, "dm"), broken)
    tensors = broken / "distilled.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-9])
    garbled = tmp_path / "garbled"
    shutil.copytree(set_of(run, "dm"), garbled)
    about = json.loads((garbled / "distilled.json").read_text(encoding="utf-8"))
    (garbled / "distilled.json").write_text(json.dumps(about | {"dataset_info": []}), encoding="utf-8")
    for path, words in (
        (tmp_path / "nothing", "no such file"),
        (tmp_path / "empty", "no finished distilled set"),
        (broken, "no readable distilled set"),
        (garbled, "garbled"),
    ):
        with pytest.raises(RequestError, match=words):
            own_sets(path, Filter())


def test_a_folder_that_holds_something_is_left_alone(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="not empty"):
        show(own_sets(set_of(run, "dm"), Filter()), Options(data), ("sound",), tmp_path)
    with pytest.raises(RequestError, match=r"mine\.txt"):
        show(own_sets(set_of(run, "dm"), Filter()), Options(data), ("sound",), tmp_path / "mine.txt" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_matplotlib_it_says_what_to_install_and_sound_still_works(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    subjects = own_sets(set_of(run, "dm"), Filter())
    with pytest.raises(RequestError, match=r"pip install 'avbench\[report\]'"):
        show(subjects, Options(data), tuple(KINDS), tmp_path / "page")
    done = show(subjects, Options(data, classes=("dog",)), ("sound",), tmp_path / "sounds")
    assert done.index.is_file()
