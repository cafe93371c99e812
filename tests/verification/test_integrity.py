"""Integrity: what was made by a run passes, and whatever is changed afterwards is caught by the check named here."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tampering import Copy, finish_run, lower_accuracy, read

from avbench.errors import RequestError
from avbench.results import RunDirectory
from avbench.verification.integrity import check_integrity

Tampering = Callable[[Copy], object]


@pytest.fixture(scope="module")
def finished(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish_run(small, tmp_path_factory.mktemp("integrity") / "runs")


def test_what_a_run_leaves_passes(finished: Path) -> None:
    findings = check_integrity(finished).findings
    assert findings.problems == [] and findings.notes == []
    assert findings.looked["artefacts"] > 8 and findings.looked["scores"] > 8


def test_what_a_kill_leaves_half_written_passes(finished: Path, tmp_path: Path) -> None:
    copy = Copy(finished, tmp_path / "copy")
    made, key = copy.records("distil", "dm")[0].parent, "0123456789abcdef0123"
    left = [made / ".distilled.safetensors.1-ab", made / "snapshots" / "2" / ".distilled.json.1-ab"]
    left += [copy.root / "shard" / f"{key}-0-2" / "snapshots" / "2" / ".distilled.safetensors.1-ab"]
    left += [copy.root / "tuning" / key / ".record.json.1-ab", copy.root / "weights" / f".{key}.safetensors.1-ab"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert copy.check().findings.problems == []
    RunDirectory(copy.root).tidy("distil", made.name)
    assert not any(path.exists() for path in left[:2])
    (made / "half.safetensors").write_bytes(b"half")  # not hidden: nobody leaves that
    assert copy.failed_checks() == {"files"}


def in_record(kind: str, method: str, edit: Callable[[dict[str, Any]], object]) -> Tampering:
    return lambda copy: copy.change(copy.records(kind, method)[0], edit)


def put(*path_and_value: Any) -> Callable[[dict[str, Any]], object]:
    """Set one value: ``put("method", "options", "lr", 9.0)``."""
    *path, last, value = path_and_value

    def edit(record: dict[str, Any]) -> None:
        for name in path:
            record = record[name]
        assert record[last] != value
        record[last] = value

    return edit


def network(record: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = record["result"]["networks"][0]
    return found


def flip_a_bit(copy: Copy) -> None:
    path = copy.records("distil", "dm")[0].with_name("distilled.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def description(copy: Copy) -> Path:
    return copy.records("distil", "dm")[0].with_name("distilled.json")


def swap(copy: Copy, *names: str) -> None:
    first, second = (path.parent for path in copy.records("distil", "dm"))
    for name in names:
        kept = (first / name).read_bytes()
        (first / name).write_bytes((second / name).read_bytes())
        (second / name).write_bytes(kept)


def swap_with_hashes(copy: Copy) -> None:
    swap(copy, "distilled.json", "distilled.safetensors")
    first, second = copy.records("distil", "dm")
    hashes = [read(path)["result"]["content_hash"] for path in (first, second)]
    for path, content_hash in zip((first, second), reversed(hashes), strict=True):
        copy.change(path, put("result", "content_hash", content_hash))


def copy_under_another_key(copy: Copy) -> None:
    folder = copy.records("distil", "dm")[0].parent
    shutil.copytree(folder, folder.with_name("0" * 20))


def copy_with_that_key(copy: Copy) -> None:
    copy_under_another_key(copy)
    copy.change(copy.root / "distil" / ("0" * 20) / "record.json", put("key", "0" * 20))


def delete(kind: str, method: str) -> Tampering:
    return lambda copy: shutil.rmtree(copy.records(kind, method)[-1].parent)


def delete_a_seed(copy: Copy) -> None:
    record = read(copy.records("distil", "dm")[-1])
    for path in (copy.root / "evaluate").glob("*/record.json"):
        if read(path)["distil_key"] == record["key"]:
            shutil.rmtree(path.parent)
    shutil.rmtree(copy.root / "distil" / record["key"])


def link_outside(copy: Copy) -> None:
    (copy.root / "distil" / "0123456789abcdef0123").symlink_to("/")


TAMPERINGS: list[tuple[str, Tampering, str]] = [
    (
        "an impossible accuracy",
        in_record("evaluate", "dm", lambda r: put("accuracy", "av", 0.51)(network(r))),
        "scores",
    ),
    ("an accuracy above one", in_record("evaluate", "dm", lambda r: put("accuracy", "av", 1.5)(network(r))), "scores"),
    ("no number", in_record("evaluate", "dm", lambda r: put("accuracy", "av", "1")(network(r))), "scores"),
    ("a network twice", in_record("evaluate", "dm", lambda r: put("index", 1)(network(r))), "scores"),
    ("a network less", in_record("evaluate", "dm", lambda r: r["result"]["networks"].pop()), "scores"),
    ("fewer networks planned, too", in_record("evaluate", "dm", put("planned_networks", 1)), "scores"),
    ("the IPC of a cell", in_record("distil", "dm", put("ipc", 2)), "keys"),
    ("the IPC of an evaluation", in_record("evaluate", "dm", put("ipc", 2)), "references"),
    ("the seed of a cell", in_record("distil", "dm", put("seed", 1)), "keys"),
    ("the seed of an evaluation", in_record("evaluate", "dm", put("seed", 1)), "keys"),
    ("an option of a cell", in_record("distil", "dm", put("method", "options", "lr", 9.0)), "keys"),
    ("an option of an evaluation", in_record("evaluate", "dm", put("method", "options", "lr", 9.0)), "references"),
    ("how networks are trained", in_record("evaluate", "dm", put("protocol", "options", "updates", 5)), "keys"),
    ("the version of a protocol", in_record("evaluate", "dm", put("protocol", "version", 2)), "keys"),
    ("another name on the board", in_record("distil", "dm", put("method", "label", "mine")), "keys"),
    (
        "another name of the protocol",
        in_record("evaluate", "dm", put("protocol", "label", "recognition-paper")),
        "keys",
    ),
    ("another name of the dataset", in_record("distil", "dm", put("dataset", "name", "ave")), "artefacts"),
    ("and for an evaluation", in_record("evaluate", "dm", put("dataset", "name", "ave")), "references"),
    ("the description of a set", lambda c: c.change(description(c), put("classes", [])), "artefacts"),
    (
        "the dataset it was made from",
        lambda c: c.change(description(c), put("dataset_info", "grid", [1, 1])),
        "artefacts",
    ),
    ("another role", in_record("evaluate", "dm", put("role", "baseline")), "references"),
    ("the dataset", in_record("distil", "dm", put("dataset", "fingerprint", "0" * 64)), "keys"),
    ("a content hash", in_record("distil", "dm", put("result", "content_hash", "0" * 64)), "artefacts"),
    ("the hash judged", in_record("evaluate", "dm", put("set_hash", "0" * 64)), "references"),
    ("bytes", in_record("distil", "dm", put("result", "storage_bytes", 1)), "arithmetic"),
    ("items", in_record("distil", "random", put("result", "items", 3)), "arithmetic"),
    ("the ratio", in_record("distil", "whole", put("result", "ratio", 0.5)), "arithmetic"),
    ("one bit of a tensor", flip_a_bit, "artefacts"),
    ("tensors of two cells swapped", lambda copy: swap(copy, "distilled.safetensors"), "artefacts"),
    ("artefacts of two cells swapped", lambda copy: swap(copy, "distilled.json", "distilled.safetensors"), "artefacts"),
    ("swapped with their hashes", swap_with_hashes, "references"),
    ("a cell copied under another key", copy_under_another_key, "keys"),
    ("and that key in its record", copy_with_that_key, "keys"),
    ("an evaluation removed", delete("evaluate", "dm"), "completeness"),
    ("the bad seed removed", delete_a_seed, "completeness"),
    ("a set removed", delete("distil", "dm"), "references"),
    (
        "tensors removed",
        lambda c: c.records("distil", "dm")[0].with_name("distilled.safetensors").unlink(),
        "artefacts",
    ),
    ("not JSON", lambda c: c.records("evaluate", "dm")[0].write_text("{", encoding="utf-8"), "schema"),
    ("deep JSON", lambda c: c.records("evaluate", "dm")[0].write_text("[" * 99999, encoding="utf-8"), "schema"),
    ("not a number", in_record("evaluate", "dm", lambda r: put("accuracy", "av", float("nan"))(network(r))), "schema"),
    ("a missing field", in_record("distil", "dm", lambda r: r.pop("seed")), "schema"),
    ("a field of another type", in_record("distil", "dm", put("prerequisites", [])), "schema"),
    ("another scheme of streams", in_record("distil", "dm", put("streams", 99)), "schema"),
    ("a pickle", lambda c: (c.root / "distil" / "set.pt").write_bytes(b"\x80"), "files"),
    ("a link out of the folder", link_outside, "files"),
]


@pytest.mark.parametrize(("tamper", "check"), [case[1:] for case in TAMPERINGS], ids=[case[0] for case in TAMPERINGS])
def test_tampering_is_caught(finished: Path, tmp_path: Path, tamper: Tampering, check: str) -> None:
    copy = Copy(finished, tmp_path / "copy")
    tamper(copy)
    assert check in copy.failed_checks()


def test_what_is_forged_with_all_that_follows_passes_integrity(finished: Path, tmp_path: Path) -> None:
    copy = Copy(finished, tmp_path / "copy")
    copy.change(copy.records("evaluate", "dm")[0], lower_accuracy)
    assert copy.failed_checks() == set()


def test_a_problem_makes_suspect_what_rests_on_it_and_no_more(finished: Path, tmp_path: Path) -> None:
    copy = Copy(finished, tmp_path / "copy")
    flip_a_bit(copy)
    results = copy.check()
    first, second = (path.parent.name for path in copy.records("evaluate", "dm"))
    assert not results.sound(first) and results.sound(second)


def test_a_choice_that_is_not_the_best_of_its_list_is_caught(small: Any, finished: Path, tmp_path: Path) -> None:
    from avbench.verification.rebuild import tuning_key

    copy = Copy(finished, tmp_path / "copy")
    cells = [[path.parent.name] for path in copy.records("distil", "dm")]
    made = read(copy.records("distil", "dm")[0])
    same = ("schema_version", "dataset", "ipc", "modality", "precision", "preset", "planned_seeds", "planned_networks")
    values = [{"value": v, "mean": m, "cells": c} for v, m, c in zip("12", (0.4, 0.6), cells, strict=True)]
    record = {
        **{name: made[name] for name in (*same, "finished", "status")},
        **{"kind": "tuning", "method": "dm", "option": "lr", "chosen_on": "validation", "judged_by": {}},
        **{"values": values, "chosen": "2", "chosen_cells": cells[1]},
    }
    key = tuning_key(record)
    folder = copy.root / "tuning" / key
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}", encoding="utf-8")
    copy.change(folder / "record.json", lambda r: r.update(record | {"key": key}))
    assert copy.failed_checks() == set()
    copy.change(folder / "record.json", lambda r: r.update({"chosen": "1", "chosen_cells": cells[0]}))
    assert copy.failed_checks() == {"scores"}


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no records"):
        check_integrity(tmp_path)
    with pytest.raises(RequestError, match="there is no such folder"):
        check_integrity(tmp_path / "absent")
