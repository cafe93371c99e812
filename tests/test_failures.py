"""Methods that misbehave, as a really installed package: each is recorded with its phase, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from packages import avbench, install

METHODS = '''
    """Methods that go wrong."""
    import torch
    from avbench.api import LearnedSet, Method, Prerequisite

    class Raises(Method):
        """Raises at its second step."""
        steps = 3

        def step(self, k):
            if k == 1:
                raise RuntimeError("the second step is too much")
            return {"loss": 1.0}

        def distilled(self):
            raise AssertionError

    class NotFinite(Raises):
        """Its loss becomes NaN."""

        def step(self, k):
            return {"loss": float("nan") if k == 2 else 0.5}

    class Over(Method):
        """Gives more items than the budget allows."""
        extra = 1

        def distilled(self):
            setting, classes = self.context.setting, len(self.context.classes)
            ipc = setting.ipc + self.extra
            labels = torch.arange(classes).repeat_interleave(ipc)
            items = {m: torch.zeros(classes * ipc, *setting.dataset.shape(m)) for m in setting.modality}
            return LearnedSet(setting.dataset, setting.modality, labels, items)

    class Infinite(Over):
        """Its items are not finite."""
        extra = 0

        def distilled(self):
            found = super().distilled()
            found.items["a"][0, 0, 0, 0] = float("inf")
            return found

    class Zeros(Over):
        """Is in order, if not good."""
        extra = 0

    class Needy(Zeros):
        """Requires what can't be built."""

        @classmethod
        def requires(cls, config, setting):
            return {"thing": Impossible()}

    class Impossible(Prerequisite):
        kind = "impossible"

        def build(self, context):
            raise MemoryError("far too big")
'''
NAMES = {"raises": "Raises", "nan": "NotFinite", "over": "Over", "infinite": "Infinite", "zeros": "Zeros"}
NAMES["needy"] = "Needy"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, avdigits_data: Path) -> tuple[CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("failures")
    entries = {"avbench.methods": {name: f"bad_methods:{target}" for name, target in NAMES.items()}}
    site = install(folder, "bad-methods", entries, {"bad_methods": METHODS})
    done = avbench(
        *("run", "--method", ",".join(["random", *NAMES]), "--dataset", "avdigits", "--ipc", "1"),
        *("--seeds", "1", "--networks", "1", "--set", "convnet.width=4"),
        *("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=1"),
        *("--data", str(avdigits_data), "--out", str(folder / "runs")),
        site=site,
    )
    return done, folder / "runs"


@pytest.mark.parametrize(
    ("method", "phase", "words"),
    [
        ("raises", "distil", "RuntimeError: the second step is too much"),
        ("nan", "step 2", "not finite"),
        ("over", "check", "the budget is 1 each"),
        ("infinite", "check", "items 'a' hold values that are not finite"),
        ("needy", "prerequisite", "far too big"),
    ],
)
def test_a_failure_is_recorded_with_its_phase_and_reason(
    outcome: tuple[CompletedProcess[str], Path], method: str, phase: str, words: str
) -> None:
    done, out = outcome
    kind = "prerequisite" if method == "needy" else "distil"
    found = [json.loads(p.read_text(encoding="utf-8")) for p in out.glob(f"{kind}/*/record.json")]
    (record,) = [r for r in found if r["status"] == "failed" and (kind != "distil" or r["method"]["name"] == method)]
    assert record["error"]["phase"] == phase
    assert words in record["error"]["reason"]
    assert words in done.stderr
    assert "Traceback" not in done.stderr  # it is in the job's log


def test_the_others_go_on_and_the_exit_status_tells(outcome: tuple[CompletedProcess[str], Path]) -> None:
    done, _ = outcome
    assert done.returncode == 3
    assert "| random " in done.stdout
    assert "| zeros " in done.stdout
    assert "incomplete: 0 of 1 seeds" in done.stdout
