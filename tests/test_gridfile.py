"""Grid files: the paper's parse and resolve, every reported number has its place in one, and errors are one line."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from paper_stores import planned_cells

from avbench.blocks import Block, narrowed
from avbench.errors import RequestError
from avbench.grammar import parse_variants
from avbench.gridfile import read_grid, shipped
from avbench.report.compared import Row, compare_grid

ROOT = Path(__file__).resolve().parent.parent
GRIDS = [name for name in shipped() if name != "authors_release"]
FIGURES = ROOT / "leaderboard" / "reported" / "avdd_tmlr2024.csv"
TASKS = {"a→v": "retrieval-a2v", "v→a": "retrieval-v2a"}
SMALL = 'title = "mine"\ndataset = "ave"\nmethod = "random,dm[lr=4.2]"\nipc = [1, 10]\n'


def methods(text: str) -> Block:
    return Block(methods=parse_variants(text, "--method"))


def test_every_table_and_ablation_of_the_paper_has_a_grid() -> None:
    tables = [f"table{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13)]
    assert sorted(GRIDS) == sorted([*tables, "fig10"])


@pytest.mark.parametrize("name", GRIDS)
def test_every_variant_of_a_shipped_grid_resolves_on_stores_of_the_papers_shapes(name: str) -> None:
    grid = read_grid(name)
    assert grid.title and grid.cost and grid.needs
    for block in grid.blocks:
        cells = planned_cells(grid, block, seeds=1, networks=1)
        assert {cell.cell.preset for cell in cells} == {"paper"}
        assert {cell.cell.method.label for cell in cells} == {variant.label for variant in block.methods}


def test_every_reported_number_belongs_to_exactly_one_cell_of_one_grid() -> None:
    with FIGURES.open(encoding="utf-8") as file:
        expected = Counter(_printed(line) for line in csv.DictReader(file))
    assert expected.total() == 313
    grids = map(read_grid, GRIDS)
    rows = [row for grid in grids for row in compare_grid(grid, grid.blocks, []).rows]
    found = Counter(_shown(row) for row in rows if row.dash or row.reported_mean == row.reported_mean)
    assert found == expected


def _printed(line: dict[str, str]) -> tuple[object, ...]:
    dash = line["variant"] if not line["mean"] else ""
    name = line["method"] if dash or not line["variant"] else f"{line['method']}: {line['variant']}"
    number = None if dash else round(float(line["mean"]), 6)
    where = (line["table"], line["dataset"], int(line["ipc"] or 0), name, line["arch"], line["fusion"])
    modality = line["modality"] if line["task"] == "recognition" else ""
    return (*where, line["task"], line["metric"], modality, number, dash)


def _shown(row: Row) -> tuple[object, ...]:
    task = TASKS.get(row.part, "recognition")
    fusion, modality = (row.fusion, row.part) if task == "recognition" else ("", "")
    metric = "MedR" if row.metric == "median rank" else row.metric
    number = None if row.dash else round(row.reported_mean * (100 if row.share else 1), 6)
    where = (row.table, row.dataset, row.ipc, row.stands_for or row.method, row.architecture, fusion)
    return (*where, task, metric, modality, number, row.dash)


def test_a_file_says_what_the_command_line_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    more = 'seeds = 2\narch = ["convnet", "lenet"]\nset = ["dm.steps=5"]\nsnapshots = [5, 0]\ndistil-arch = "lenet"\n'
    path.write_text(SMALL + more, encoding="utf-8")
    grid = read_grid(str(path))
    (block,) = grid.blocks
    assert (grid.seeds, grid.networks, block.ipcs, block.datasets) == (2, None, (1, 10), ("ave",))
    assert [variant.label for variant in block.methods] == ["random", "dm[lr=4.2]"]
    assert [variant.label for variant in block.architectures] == ["convnet", "lenet"]
    assert block.settings == {"dm": {"steps": "5"}}
    assert block.snapshots == (0, 5)
    assert block.distil_architecture is not None and block.distil_architecture.label == "lenet"


def test_a_block_takes_what_stands_above_it_and_replaces_some(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL + '[[block]]\nipc = 20\n[[block]]\nmethod = "whole"\n', encoding="utf-8")
    first, second = read_grid(str(path)).blocks
    assert (first.ipcs, [v.label for v in first.methods]) == ((20,), ["random", "dm[lr=4.2]"])
    assert (second.ipcs, [v.label for v in second.methods]) == ((1, 10), ["whole"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALL + "archs = 'x'\n", "unknown key 'archs'; did you mean 'arch'"),
        (SMALL + "seeds = 0\n", "seeds = 0: expected a whole number of at least 1"),
        (SMALL + "seeds = true\n", "seeds = True"),
        (SMALL + "controls = 'yes'\n", "controls = 'yes': expected true or false"),
        (SMALL + "modality = ['x']\n", "modality"),
        (SMALL + "preset = 'fast'\n", "fast"),
        (SMALL + "[[block]]\nseeds = 2\n", "block 1, seeds: it holds for the whole grid"),
        (SMALL + "[[block]]\nipc = 'x'\n", "block 1, ipc = 'x'"),
        (SMALL + "[reported]\ntable = '3'\n", "needs 'preset' too"),
        (SMALL + "[reported.variant]\n'dm' = 'x'\n", "'dm' is none of the block's methods"),
        (SMALL.replace("random,dm[lr=4.2]", "dm["), "method 'dm['"),
        (SMALL.replace("[1, 10]", "[1, 1]"), "each listed once"),
        (SMALL.replace("method", "methods"), "unknown key 'methods'; did you mean 'method'"),
        (SMALL.replace('method = "random,dm[lr=4.2]"\n', ""), "'method' is missing"),
        (SMALL.replace('title = "mine"\n', ""), "'title' is missing"),
        ("title = ", "Invalid value"),
    ],
)
def test_what_a_file_can_not_say_is_one_line_with_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError) as error:
        read_grid(str(path))
    assert words in str(error.value)
    assert str(path) in str(error.value) or "preset" in words or "fast" in words
    assert "\n" not in str(error.value)


def test_unknown_grids_offer_the_known_and_a_release_names_its_own_command(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'table3'"):
        read_grid("tabel3")
    with pytest.raises(RequestError, match="avbench evaluate --grid authors_release"):
        read_grid("authors_release")
    with pytest.raises(RequestError, match="can't be read"):
        read_grid(str(tmp_path / "none.toml"))


# --- what the command line adds -----------------------------------------------------------------------------------


def test_values_of_the_grid_narrow_it_and_blocks_without_any_go() -> None:
    left, right = read_grid("table4").blocks
    both = narrowed((left, right), methods("avdd"))
    assert [[v.label for v in block.methods] for block in both] == [["avdd"], ["avdd"]]
    (one,) = narrowed((left, right), methods("random,herding"))
    assert one.reported.table == "4-left"


def test_any_other_value_replaces_the_list_of_every_block() -> None:
    given = replace(methods("mtt"), datasets=("avdigits",), ipcs=(1,), preset="quick")
    blocks = narrowed(read_grid("table4").blocks, given)
    assert [block.datasets for block in blocks] == [("avdigits",)] * 2
    assert [block.ipcs for block in blocks] == [(1,)] * 2
    assert {v.label for block in blocks for v in block.methods} == {"mtt"}
    assert {block.preset for block in blocks} == {"quick"}


def test_nothing_left_is_refused() -> None:
    ave, vgg = (Block(datasets=(name,), ipcs=(ipc,)) for name, ipc in (("ave", 1), ("vggs10k", 10)))
    with pytest.raises(RequestError, match="no block has all"):
        narrowed((ave, vgg), Block(datasets=("ave",), ipcs=(10,)))


def test_weights_go_to_the_blocks_that_need_them() -> None:
    drawn, pretrained = narrowed(read_grid("table12").blocks, Block(init_weights=Path("w.safetensors")))
    assert (drawn.init_weights, pretrained.init_weights) == (None, Path("w.safetensors"))
    (table8,) = narrowed(read_grid("table8").blocks, Block(init_weights=Path("w.safetensors")))
    assert table8.init_weights == Path("w.safetensors")


def test_settings_add_to_the_grids() -> None:
    block = Block(settings={"dm": {"steps": "5", "lr": "1"}})
    (found,) = narrowed([block], Block(settings={"dm": {"lr": "2"}, "avdd": {"base": "0"}}))
    assert found.settings == {"dm": {"steps": "5", "lr": "2"}, "avdd": {"base": "0"}}
