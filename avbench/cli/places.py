"""Where things are: options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import typer

DATA: Path = typer.Option(
    Path("data"), envvar="AVBENCH_DATA", help="Folder of the prepared datasets.", rich_help_panel="Where"
)
