"""``avbench show``: pictures and sound of distilled sets."""

from __future__ import annotations

from pathlib import Path

import typer

from avbench.cli.places import DATA

_SETS, _LOOKS = "The sets", "What is shown"


def show(
    path: Path = typer.Argument(help="A distilled set, a run directory, or any layout that avbench evaluate reads."),
    output: Path = typer.Option(..., "-o", "--output", help="A new or empty folder; begin at its index.html."),
    method: str = typer.Option("", help="Of a run directory: these methods alone.", rich_help_panel=_SETS),
    ipc: str = typer.Option("", help="Of a run directory: these IPCs alone.", rich_help_panel=_SETS),
    seeds: str = typer.Option(
        "", help="Of a run directory: sets of these seeds. Default: the lowest of each.", rich_help_panel=_SETS
    ),
    dataset: str = typer.Option("", help="The store that a set from elsewhere is for.", rich_help_panel=_SETS),
    factor: int | None = typer.Option(
        None, min=1, help="Of a set from elsewhere, l: each item packs l × l samples.", rich_help_panel=_SETS
    ),
    data: Path = DATA,
    what: str = typer.Option(
        "",
        help="frames, embeddings, curves, confusion, retrieval, sound. Default: all that can be made.",
        rich_help_panel=_LOOKS,
    ),
    classes: str = typer.Option("", help="Names; '\"a, b\",c' where one holds a comma.", rich_help_panel=_LOOKS),
    per_class: int = typer.Option(10, min=1, help="The most items of a class in a grid.", rich_help_panel=_LOOKS),
    networks: str = typer.Option("random", help="Of embeddings: random, trained.", rich_help_panel=_LOOKS),
    seed: int = typer.Option(0, min=0, help="Of what is drawn at random for the page.", rich_help_panel=_LOOKS),
    device: str = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_LOOKS),
    dpi: int = typer.Option(200, min=50, max=1200, help="Of the PNG files.", rich_help_panel=_LOOKS),
) -> None:
    """Write figures and sounds of distilled sets, and a page of them; says on stderr what can't be shown and why."""
    from avbench.cli import showing

    which = showing.Which(method, ipc, seeds, dataset, factor)
    how = showing.How(what, classes, per_class, networks, seed, device, dpi)
    showing.show_sets(path, output, data, which, how)
