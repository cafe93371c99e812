"""The conformance kit: it passes plugins that keep their contract, and each check catches one that does not."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broken_devices
import broken_methods
import broken_others
import numpy as np
import pytest
import torch
from judged import failing, named

from avbench.errors import PluginError, RequestError
from avbench.plugins import listing, load
from avbench.testing import Check, Failure, NotChecked, checks, register, registry
from avbench.testing.devices import another_device, described
from avbench.testing.registry import registered
from avbench.testing.subject import SINGULAR

ROOT = Path(__file__).resolve().parents[2]
BROKEN = [*broken_methods.BROKEN, *broken_others.BROKEN, *broken_devices.BROKEN]
FIRST_PARTY = [
    f"{kind}:{info.name if info.name != 'timm' else 'timm/resnet10t'}"
    for kind in ("method", "architecture", "fusion", "protocol", "dataset")
    for info in listing(SINGULAR[kind])
    if info.distribution == "avbench"
]
QUICK = ["method:random", "architecture:lenet", "fusion:ensemble", "fusion:attention", "dataset:arrays"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some broken plugins write where they stand."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("plugin", [broken_methods.Means, *broken_others.GOOD], ids=lambda each: each.__name__)
def test_a_plugin_that_keeps_its_contract_passes(plugin: Any) -> None:
    assert failing(plugin) == {}


@pytest.mark.parametrize(("plugin", "names", "words"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_each_check_catches_a_plugin_that_breaks_it(plugin: Any, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(Failure) as caught:
        named(plugin, names[0])()
    told = str(caught.value)
    assert words in told
    assert told.startswith("expected ") and "; found " in told
    assert caught.value.advice.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize(("plugin", "names", "words"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_a_fault_is_told_by_its_checks_alone(plugin: Any, names: tuple[str, ...], words: str) -> None:
    assert set(failing(plugin)) == set(names)


def test_every_check_has_a_plugin_that_it_catches() -> None:
    checks(broken_methods.Means)  # imports all that register
    caught = {(_kind(plugin), name) for plugin, names, _ in BROKEN for name in names}
    missing = [
        f"{about.name} of {' and '.join(about.kinds)}"
        for kind in SINGULAR
        for about in registered(kind)
        # A check that several kinds share is one function: one plugin shows that it catches.
        if not any((each, about.name) in caught for each in about.kinds)
    ]
    assert missing == []


def _kind(plugin: Any) -> str:
    return checks(plugin)[0].subject.kind


@pytest.mark.parametrize("name", QUICK)
def test_first_party_plugins_pass(name: str) -> None:
    assert failing(name) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIRST_PARTY if name not in QUICK])
def test_all_first_party_plugins_pass(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of timm's
        assert failing(name) == {}


def _devices() -> list[Any]:
    """The first-party plugins whose checks include one on another device; what takes longer is marked."""
    brief = ("method:dm", "architecture:convnet", "fusion:attention", "fusion:ensemble")
    names = [name for name in FIRST_PARTY if not name.startswith("dataset")]
    return [name if name in brief else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", _devices())
def test_first_party_plugins_work_on_another_device(name: str) -> None:
    about = "device" if name.startswith(("method", "protocol")) else "moves"
    assert named(name, about)() == described(another_device())  # and is not left unchecked


def test_a_machine_without_gpu_is_said_to_have_none() -> None:
    told = named(broken_methods.Means, "device")()
    assert told == (torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU here: on a stand-in")


def test_a_method_that_does_not_say_separable_may_couple_its_classes() -> None:
    assert broken_methods.Joint.separable is False
    assert failing(broken_methods.Joint) == {}
    with pytest.raises(NotChecked, match="does not say that it is separable"):
        named(broken_methods.Joint, "class-shards")()


def test_a_check_leaves_the_process_as_it_was() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_default_dtype(), Path.cwd()
    failing(broken_methods.Meddling)
    named(broken_methods.Seeding, "files")()
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_default_dtype(), Path.cwd()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert "under-test" not in [info.name for info in listing("methods")]


def test_options_are_set_while_a_plugin_is_checked() -> None:
    check = named(broken_methods.Means, "state", steps=2, noise=None, scales=(1.0, 2.0))
    assert check.subject.options == {"steps": "2", "noise": "none", "scales": "1.0 2.0"}
    assert check() == "2 steps"
    with pytest.raises(RequestError, match="no option 'step'; did you mean 'steps'"):
        checks(broken_methods.Means, options={"step": 2})


def test_a_plugin_is_a_class_a_loaded_one_or_a_name() -> None:
    names = [str(check) for check in checks("method:random")]
    assert names == [check.name for check in checks(load("methods", "random"))]
    assert names == [check.name for check in checks(load("methods", "random").target)]
    with pytest.raises(PluginError, match="unknown method 'randon'; did you mean 'random'"):
        checks("method:randon")
    with pytest.raises(RequestError, match="unknown kind of plugin 'metod'; did you mean 'method'"):
        checks("metod:random")
    with pytest.raises(RequestError, match="stands for many"):
        checks("architecture:timm")
    with pytest.raises(RequestError, match="Path is no plugin"):
        checks(Path)


def test_an_embedded_dataset_is_prepared_and_another_with_its_source(tmp_path: Path) -> None:
    assert named(broken_others.Tones, "prepare")() == "train 22, val 6, test 10"

    class Sourced(broken_others.Tones):
        """Tones that need a source."""

        embedded = False

    with pytest.raises(NotChecked, match="--source"):
        named(Sourced, "prepare")()
    with_source = {check.name: check for check in checks(Sourced, source=tmp_path)}
    assert with_source["repeatable"]() == ""
    with pytest.raises(RequestError, match="no such file"):
        checks(Sourced, source=tmp_path / "absent")


def test_a_temporary_folder_is_no_file_elsewhere() -> None:
    assert named(broken_methods.Scratching, "files")() == ""


@pytest.fixture
def extra() -> Iterator[str]:
    """A check that came after the plugins' tests were written."""

    @register("fusion", name="extra", promise="a fusion to be liked")
    def liked(subject: Any) -> None:
        raise Failure("a fusion to be liked", subject.name, "Be kind.")

    yield "extra"
    registry._REGISTRY[:] = [each for each in registry._REGISTRY if each.function is not liked]


def test_a_new_check_reaches_authors_without_an_edit(extra: str) -> None:
    assert extra in [check.name for check in checks(broken_others.Mean)]
    assert failing(broken_others.Mean) == {extra: "expected a fusion to be liked; found Mean. Be kind."}
    with pytest.raises(ValueError, match="registered already"):
        register("method", "fusion", name="extra", promise="")(lambda subject: None)


def test_the_page_lists_every_check_with_its_promise() -> None:
    checks(broken_methods.Means)
    page = (ROOT / "docs" / "plugins" / "conformance.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w-]+)` \| ([\w, ]+) \| (.+) \|$", page, flags=re.MULTILINE)
    assert listed == [(each.name, ", ".join(each.kinds), each.promise) for each in registry._REGISTRY]


def test_a_check_is_a_test_that_pytest_names_and_skips(pytester_folder: Path) -> None:
    text = """
import pytest
from avbench.api import SelectionMethod
from avbench.testing import checks

class Mine(SelectionMethod):
    '''The last rows.'''

    def select(self, cls, count):
        return self.context.train.class_rows(cls)[-count:].tolist()

@pytest.mark.parametrize("check", checks(Mine), ids=str)
def test_conformance(check):
    check()
"""
    (pytester_folder / "test_mine.py").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-k",
        "budget or labels or sharing",
    ]
    done = subprocess.run([*command, "test_mine.py"], cwd=pytester_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed, 1 skipped" in done.stdout
    assert "shares() does not mark its cells" in done.stdout


@pytest.fixture
def pytester_folder(tmp_path: Path) -> Path:
    """A folder outside the repository, so that its settings do not reach an author's test."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return tmp_path


def test_a_check_tells_its_name_and_promise() -> None:
    check = checks(broken_methods.Means)[0]
    assert isinstance(check, Check)
    assert (str(check), check.promise) == ("declared", "a docstring for listings and a whole version from 1")
