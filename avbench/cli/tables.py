"""Tables on stdout."""

from __future__ import annotations

from collections.abc import Sequence

import typer

_WIDE = 10_000


def print_table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table on stdout, as wide as the terminal; as wide as it needs where that is a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    # A pipe has no width: never cut, fold or pad for it.
    console = Console(width=_WIDE)
    with console.capture() as text:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in text.get().splitlines()))
