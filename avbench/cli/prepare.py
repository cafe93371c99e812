"""``avbench prepare``: from a user's copy of a dataset to a store."""

from __future__ import annotations

from pathlib import Path

import typer

from avbench.cli.places import DATA


def prepare(
    dataset: str = typer.Argument(help="A dataset plugin, with options: arrays or 'arrays\\[mels=64]'."),
    source: Path | None = typer.Option(None, help="Your copy: a file or folder, as the dataset's page says."),
    name: str | None = typer.Option(None, help="The store's name. Default: the dataset's."),
    data: Path = DATA,
    settings: list[str] = typer.Option([], "--set", help="DATASET.OPTION=VALUE; may be repeated."),
) -> None:
    """Turn a raw copy of a dataset into a store that runs by its name."""
    from avbench.cli.progress import preparation
    from avbench.data.prepare import prepare as make
    from avbench.errors import RequestError
    from avbench.grammar import parse_settings, parse_variants

    variants = parse_variants(dataset, "DATASET")
    if len(variants) != 1:
        raise RequestError(f"{dataset!r}: prepare takes one dataset at a time.")
    given = {**parse_settings(settings).get(variants[0].name, {}), **variants[0].given}
    with preparation() as progress:
        store = make(variants[0].name, given, source, name or variants[0].name, data, progress)
    info = store.info
    sizes = ", ".join(f"{info.size(split)} {split}" for split in info.counts)
    typer.echo(f"{info.name}: {len(info.classes)} classes, {sizes}; audio {info.audio_shape}, ", nl=False)
    typer.echo(f"frames {info.frame_shape}; fingerprint {info.fingerprint[:12]}; in {store.folder}")
    for note in info.notes:
        typer.echo(f"note: {note}")
