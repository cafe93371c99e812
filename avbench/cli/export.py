"""``avbench export``: a distilled set for other programs, with a card."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from avbench.cli.places import DATA


def export(
    path: Path = typer.Argument(help="A distilled set of avbench: RUNS/distil/KEY, or a snapshot in it."),
    to: str = typer.Option(..., "--to", help="npz, folder, webdataset, hf or, for selected sets, references."),
    output: Path = typer.Option(..., "-o", "--output", help="A new or empty folder."),
    decoded: bool = typer.Option(
        True, "--decoded/--stored", help="Training samples, or stored items that may pack several samples each."
    ),
    data: Path = DATA,
) -> None:
    """Write a distilled set so that other programs read it, with a card: classes, licence, how made, how to decode.

    Selected sets hold references alone: their samples come from the store, and the card says whose videos they are.
    """
    from avbench.cli.stopping import stoppable
    from avbench.formats.export import CARD, VIDEOS, export_set

    with stoppable():
        done = export_set(path, to, output, data, decoded)
    contents = done.contents
    what = "samples" if decoded or contents.factor == 1 else "items"
    typer.echo(
        f"{contents.count} {what} of {len(contents.info.classes)} classes ({to}, {done.disk_bytes / 1e6:.1f} MB) "
        f"in {done.folder}; read {done.folder / CARD}"
    )
    for note in contents.set.notes:
        print(f"note: {note}", file=sys.stderr)
    if (done.folder / VIDEOS).is_file():
        print(
            "note: these are samples of the dataset itself, not synthetic ones; see Personal data in the card.",
            file=sys.stderr,
        )
