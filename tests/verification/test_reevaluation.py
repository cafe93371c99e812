"""Re-evaluation by the workers of a run: an honest record comes out equal, a consistent forgery does not."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tampering import Copy, finish_run, lower_accuracy

from avbench.cli import main
from avbench.errors import RequestError
from avbench.jobs import Engine
from avbench.verification.agreement import BIT_EQUAL, DIFFERS
from avbench.verification.reevaluation import Bench, Wanted, reevaluate
from avbench.verification.tiers import FAILED, INTEGRITY, REEVALUATED, lowest, tiers, write_verification


@pytest.fixture(scope="module")
def finished(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish_run(small, tmp_path_factory.mktemp("again") / "runs")


def bench(data: Path, scratch: Path) -> Bench:
    return Bench(data, scratch, Engine(), 1, ("test",), lambda plan, slots: nullcontext(lambda event: None))


def test_a_forgery_that_passes_integrity_fails_here_and_its_neighbours_do_not(
    finished: Path, small: Any, tmp_path: Path
) -> None:
    copy = Copy(finished, tmp_path / "copy")
    honest, forged = (path.parent.name for path in copy.records("evaluate", "random"))
    path = copy.root / "evaluate" / forged / "record.json"
    copy.change(path, lower_accuracy)
    results = copy.check()
    assert results.findings.problems == []

    found = reevaluate(results, Wanted((honest, forged)), bench(small.data, tmp_path / "scratch"))
    assert {each.key: each.verdict for each in found} == {honest: BIT_EQUAL, forged: DIFFERS}
    (problem,) = results.findings.problems
    assert (problem.check, problem.where) == ("re-evaluation", f"evaluate/{forged}/record.json")

    write_verification(results, found)
    levels = tiers(copy.root)
    (untouched,) = {path.parent.name for path in copy.records("evaluate", "dm")[:1]}
    assert (levels[honest], levels[forged], levels[untouched]) == (REEVALUATED, FAILED, INTEGRITY)
    assert lowest([levels[honest], levels[untouched]]) == INTEGRITY

    write_verification(copy.check(), ())  # integrity alone, later: what was found before still holds
    assert tiers(copy.root)[honest] == REEVALUATED
    copy.change(copy.root / "evaluate" / honest / "record.json", lambda record: record.update(duration_s=1.0))
    assert honest not in tiers(copy.root)


def test_fewer_networks_of_a_set_and_of_its_snapshot_from_the_command_line(
    finished: Path, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(finished, tmp_path / "copy")
    cell = copy.records("distil", "dm")[0].parent.name
    options = ("--data", str(small.data), "--only", cell, "--networks", "1", "--write", "--json", "--jobs", "1")
    monkeypatch.setattr(sys, "argv", ["avbench", "verify", str(copy.root), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["verdict"], each["networks"]) for each in told["evaluations"]] == [(BIT_EQUAL, 1)] * 2
    assert told["checks"]["re-evaluation"] == {"looked": 2, "failed": 0}
    assert sum(level == REEVALUATED for level in tiers(copy.root).values()) == 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(("0" * 20,)), "no finished evaluation or cell"),
        (Wanted(), "no store under .* has the fingerprint"),
    ],
)
def test_what_can_not_be_judged_again_is_refused(finished: Path, tmp_path: Path, wanted: Wanted, words: str) -> None:
    from avbench.verification.integrity import check_integrity

    with pytest.raises(RequestError, match=words):
        reevaluate(check_integrity(finished), wanted, bench(tmp_path, tmp_path / "scratch"))


def test_a_record_that_fails_integrity_is_not_judged_again(finished: Path, small: Any, tmp_path: Path) -> None:
    copy = Copy(finished, tmp_path / "copy")
    path = copy.records("evaluate", "dm")[0]
    copy.change(path, lambda record: record.update(seed=1))
    with pytest.raises(RequestError, match="integrity failed"):
        reevaluate(copy.check(), Wanted((path.parent.name,)), bench(small.data, tmp_path / "scratch"))


def test_a_sample_is_drawn_from_its_seed(finished: Path, small: Any, tmp_path: Path) -> None:
    from avbench.verification.reevaluation import _draw

    keys = [f"{i:020x}" for i in range(40)]
    first = _draw(keys, Wanted(sample=5, seed=1))
    assert first == _draw(keys[::-1], Wanted(sample=5, seed=1)) != _draw(keys, Wanted(sample=5, seed=2))
    assert len(set(first)) == 5 and _draw(keys, Wanted(sample=41)) == keys
