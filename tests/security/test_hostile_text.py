"""What is typed and what grids say: any text is understood or refused in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import FUZZED, vary
from hypothesis import strategies as st

from avbench.cli import main
from avbench.cli.parsing import parse_ipcs, parse_modalities, parse_snapshots
from avbench.errors import AvbenchError, RequestError
from avbench.grammar import canonical, parse_settings, parse_variants
from avbench.gridfile import read_grid
from avbench.options import resolve
from avbench.tuning import parse_tunes
from avbench_datasets.ave import AVEConfig

#: Text near the grammar: it gets further than letters drawn at random.
NEAR = st.lists(
    st.sampled_from(["dm", "avdd", "[", "]", ",", "=", '"', "\\", " ", ":", "lr", "4.2", "-", "é", "\0", "\n", "'"]),
    max_size=14,
).map("".join)
PARSERS: list[Callable[[str], object]] = [
    lambda text: parse_variants(text, "--method"),
    lambda text: parse_settings([text]),
    lambda text: parse_tunes([text]),
    parse_ipcs,
    parse_snapshots,
    parse_modalities,
]


@FUZZED
def test_any_text_is_parsed_or_refused(depth: int) -> None:
    def body(text: str) -> None:
        for parse in PARSERS:
            try:
                parse(text)
            except RequestError as error:
                assert "\n" not in str(error) or "\n" in text

    vary(depth, 150, st.text(max_size=30) | NEAR | st.text("0123456789²٣,-+e.", max_size=20), body)


@FUZZED
def test_any_options_are_written_so_that_they_are_read_back(depth: int) -> None:
    values = st.dictionaries(st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), st.text(min_size=1))

    def body(given: dict[str, str]) -> None:
        variant = canonical("dm", given)
        assert parse_variants(variant.label, "--method") == (variant,)

    vary(depth, 60, values, body)


@pytest.mark.parametrize("parse", [parse_ipcs, parse_snapshots])
def test_numbers_of_thousands_of_digits_are_refused(parse: Callable[[str], object]) -> None:
    with pytest.raises(RequestError, match=r"expected numbers|not a whole number"):
        parse("9" * 5000)


TOML_VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "0",
        "true",
        '""',
        '"dm"',
        '"dm["',
        "[]",
        "[1, 1]",
        "{}",
        "{a = 1}",
        "1e999",
        "nan",
        "1979-05-27",
        "[[]]",
    ]
)
KEYS = st.sampled_from(
    [
        "title",
        "method",
        "dataset",
        "ipc",
        "seeds",
        "set",
        "tune",
        "snapshots",
        "reported",
        "reported.variant",
        "block",
        "init-weights",
        "distil-arch",
        "preset",
        "modality",
        "precision",
        "prepare",
        "controls",
        "nobody",
    ]
)


@FUZZED
def test_any_grid_is_read_or_refused(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    lines = st.lists(st.tuples(KEYS, TOML_VALUES).map(" = ".join), max_size=5)
    start = 'title = "t"\nmethod = "dm"\ndataset = "x"\nipc = 1\n'

    def body(found: tuple[bool, list[str]]) -> None:
        path.write_text((start if found[0] else "") + "\n".join(found[1]), encoding="utf-8")
        try:
            read_grid(str(path))
        except AvbenchError as error:
            assert str(error)

    vary(depth, 120, st.tuples(st.booleans(), lines), body)


@pytest.mark.parametrize(
    "content",
    [b"a = " + b"[" * 20_000, b"a = " + b"9" * 5_000, b"\xff\xfe", b"title = \0", b"a." * 2_000 + b"a = 1"],
    ids=["deep", "digits", "no utf-8", "zero byte", "dotted"],
)
def test_grids_that_break_parsers_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "grid.toml"
    path.write_bytes(content)
    with pytest.raises(RequestError):
        read_grid(str(path))


@FUZZED
def test_any_value_of_an_option_is_taken_or_refused(depth: int) -> None:
    names = st.sampled_from([*AVEConfig.__dataclass_fields__, "nobody"])
    values = st.text(max_size=12) | st.sampled_from(["nan", "inf", "-1", "1e400", "9" * 5000, "none", "true", "0.5"])

    def body(given: dict[str, str]) -> None:
        try:
            resolve(AVEConfig, "ave", [(given, "test")])
        except RequestError as error:
            assert "ave" in str(error)

    vary(depth, 100, st.dictionaries(names, values, max_size=3), body)


# --- the command line ---------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["avbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


NAMED: list[Callable[[str], list[str]]] = [
    lambda name: ["data", "info", name],
    lambda name: ["data", "audit", name],
    lambda name: ["prepare", "avdigits", "--name", name],
    lambda name: ["prepare", "folder", "--source", ".", "--name", name],
    lambda name: ["run", "--method", name, "--dataset", "nobody", "--ipc", "1"],
    lambda name: ["run", "--method", "random", "--dataset", name, "--ipc", "1"],
    lambda name: ["run", "--method", "random", "--dataset", "nobody", "--ipc", "1", "--arch", name],
    lambda name: ["submit", ".", "-o", "out", "--name", name],
    lambda name: ["new", "method", name],
    lambda name: ["check", "method", name],
    lambda name: ["export", name, "--to", "npz", "-o", "out"],
    lambda name: ["leaderboard", name],
    lambda name: ["verify", name],
    lambda name: ["evaluate", name, "--dataset", "nobody"],
]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "~/x", ".hidden", "x" * 300, "é["])
def test_a_name_that_is_a_path_is_refused_by_every_verb_and_makes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "one" / "two"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.delenv("AVBENCH_DATA", raising=False)
    for arguments in NAMED:
        assert command(monkeypatch, *arguments(name)) == 2, arguments(name)
        told = capsys.readouterr().err
        assert told and "Traceback" not in told
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert made <= {"one", "one/two"}


@pytest.mark.parametrize("name", ["con", "NUL", "com1.x", "Lpt9"])
def test_a_store_is_not_named_like_a_device(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "prepare", "avdigits", "--name", name, "--data", str(tmp_path)) == 2
    assert "device" in capsys.readouterr().err and not list(tmp_path.iterdir())
