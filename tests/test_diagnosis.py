"""What ``avbench env`` says of machines that fit and of those that don't."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from packages import avbench

from avbench.diagnosis import Device, Facts, gather, problems

SOUND = Facts(
    python="3.11.7",
    packages={"torch": "2.11.0+cu130", "torchvision": "0.26.0", "torchaudio": "2.11.0"},
    cuda="13.0",
    driver="580.65.06",
    devices=(Device("H100", (9, 0), 80_000),),
    architectures=("sm_75", "sm_80", "sm_90", "compute_120"),
    disk_free_bytes={"runs": 10**12},
)


def test_a_sound_machine_has_no_problem() -> None:
    assert problems(SOUND) == []
    assert problems(replace(SOUND, driver=None, devices=(), architectures=())) == []  # no GPU is no problem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "3.13.1"}, "made for 3.11 and 3.12"),
        ({"packages": {**SOUND.packages, "torch": "2.13.0"}}, "torch 2.13.0): pip install 'torch>=2.11,<2.12'"),
        ({"packages": {**SOUND.packages, "torchaudio": "2.11.1"}}, "torchaudio 2.11.1): pip install"),
        ({"packages": {**SOUND.packages, "torchaudio": None}}, "torchaudio absent"),
        ({"import_errors": {"torchaudio": "OSError: libcudart"}}, "can't be imported (OSError: libcudart)"),
        ({"driver": "535.10"}, "install driver 580 or newer"),
        ({"cuda": None}, "built without CUDA"),
        ({"devices": ()}, "torch sees no device"),
        ({"devices": (Device("V100", (7, 0), 16_000),)}, "capability 7.0, torch's kernels start at 7.5"),
        ({"broken": ("mine (my-package 1.0): [import] oops",)}, "plugin mine (my-package 1.0)"),
        ({"disk_free_bytes": {"runs": 10**9}}, "only 1.0 GB are free under runs"),
    ],
)
def test_what_does_not_fit_is_told_with_what_to_do(change: dict, words: str) -> None:  # type: ignore[type-arg]
    (found,) = problems(replace(SOUND, **change))
    assert words in found


def test_this_machine_s_packages_are_of_one_generation(tmp_path: Path) -> None:
    facts = gather((tmp_path / "not" / "there",))
    assert not [text for text in problems(facts) if "generation" in text or "imported" in text]
    assert facts.disk_free_bytes[str(tmp_path / "not" / "there")] > 0


def test_the_verb_prints_it_and_its_json_loads_back(tmp_path: Path) -> None:
    done = avbench("env", "--json", "--out", str(tmp_path), "--data", str(tmp_path))
    found = json.loads(done.stdout)
    assert found["packages"]["torch"].startswith("2.11")
    assert done.returncode == (3 if found["problems"] else 0)
    assert found["plugins"] >= 12
