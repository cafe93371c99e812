"""``avbench prepare``: from a user's copy of a dataset to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from avbench.cli.places import DATA
from avbench.errors import RequestError, nearest

#: What ``typer.Typer.command`` needs for this verb: a dataset's own options come as flags that it does not know.
CONTEXT: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


def prepare(
    ctx: typer.Context,
    dataset: str = typer.Argument(help="A dataset plugin, with options: ave or 'arrays\\[mels=64]'."),
    source: Path | None = typer.Option(None, help="Your copy: a file or folder, as the dataset's page says."),
    name: str | None = typer.Option(None, help="The store's name. Default: the dataset's."),
    data: Path = DATA,
    workers: int | None = typer.Option(None, help="Processes that decode at once. Default: one a core."),
    strict: bool = typer.Option(False, "--strict", help="A missing or broken video is an error; else it is counted."),
    settings: list[str] = typer.Option([], "--set", help="DATASET.OPTION=VALUE; may be repeated."),
) -> None:
    """Turn a raw copy of a dataset into a store that runs by its name.

    Each option of the dataset is a flag as well: --split-file FILE is --set DATASET.split_file=FILE, and an option
    that is true or false needs no value. avbench list datasets shows the options.
    """
    from avbench.cli.progress import preparation
    from avbench.cli.stopping import stoppable
    from avbench.data.prepare import prepare as make
    from avbench.diagnosis import cores
    from avbench.grammar import parse_settings, parse_variants

    if dataset.startswith("-"):
        raise RequestError(f"{dataset}: name the dataset first: avbench prepare DATASET {dataset} …")
    variants = parse_variants(dataset, "DATASET")
    if len(variants) != 1:
        raise RequestError(f"{dataset!r}: prepare takes one dataset at a time.")
    if workers is not None and workers < 1:
        raise RequestError(f"--workers {workers}: expected at least 1.")
    variant = variants[0]
    flags = read_flags(ctx.args, variant.name)
    given = {**parse_settings(settings).get(variant.name, {}), **flags, **variant.given}
    with stoppable(), preparation() as progress:
        store = make(
            *(variant.name, given, source, name or variant.name, data, progress),
            workers=workers or cores(),
            strict=strict,
        )
    _tell(store)


def read_flags(arguments: list[str], dataset: str) -> dict[str, str]:
    """Options of a dataset's ``Config`` from flags such as ``--split-file FILE``, ``--seconds=10`` or ``--quiet``.

    Raises:
        RequestError: a flag that the dataset does not have, one without its value, or a stray word.
    """
    if not arguments:
        return {}
    from avbench import plugins
    from avbench.options import describe

    kinds = {info.name: info.type for info in describe(plugins.load("datasets", dataset).target.Config)}
    flags: dict[str, str] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        option = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--"):
            raise RequestError(f"{word!r}: unexpected; options of {dataset} are written --OPTION VALUE.")
        if option not in kinds:
            known = [f"--{each.replace('_', '-')}" for each in kinds]
            raise RequestError(f"{dataset} has no option {flag}; {nearest(flag, known)}")
        if option in flags:
            raise RequestError(f"{flag} is given twice.")
        if not equals and kinds[option] == "true or false":
            value = "true"
        elif not equals:
            if not left or left[0].startswith("--"):
                raise RequestError(f"{flag} needs a value: {kinds[option]}.")
            value = left.pop(0)
        flags[option] = value
    return flags


def _tell(store: Any) -> None:
    """The store in two lines, what was lost while it was made, and its notes."""
    from avbench.data.report import as_text, read_report

    info = store.info
    sizes = ", ".join(f"{info.size(split)} {split}" for split in info.counts)
    typer.echo(f"{info.name}: {len(info.classes)} classes, {sizes}; audio {info.audio_shape}, ", nl=False)
    typer.echo(f"frames {info.frame_shape}; fingerprint {info.fingerprint[:12]}; in {store.folder}")
    report = read_report(store.folder)
    if report is not None:
        typer.echo(f"\n{as_text(report)}\n")
    for note in info.notes:
        typer.echo(f"note: {note}")
