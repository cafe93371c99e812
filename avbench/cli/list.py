"""``avbench list`` and ``avbench plugins``: what is installed, without and with importing it."""

from __future__ import annotations

import json

import typer

from avbench.errors import RequestError, nearest
from avbench.plugins import KINDS, PluginInfo, listing

_LISTED = [kind for kind in KINDS if kind != "hooks"]


def list_plugins(
    kind: str = typer.Argument("", help=f"One of: {', '.join([*_LISTED, 'hooks'])}. Default: all."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List plugins with summary, distribution and version; imports none of them."""
    if kind and kind not in KINDS:
        raise RequestError(f"unknown kind {kind!r}; {nearest(kind, KINDS)}")
    found = [info for each in ([kind] if kind else KINDS) for info in listing(each)]
    if as_json:
        typer.echo(json.dumps([info.as_json() for info in found], indent=2))
        return
    _print(found, [""] * len(found))


def show_plugins(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Import every plugin and report the broken ones, with distribution, version and phase."""
    from avbench.plugins import audit

    report = audit()
    if as_json:
        plain = [{**info.as_json(), "problem": problem} for info, problem in report]
        typer.echo(json.dumps(plain, indent=2))
        return
    _print([info for info, _ in report], [problem or "ok" for _, problem in report])


def _print(found: list[PluginInfo], states: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("kind", "name", "distribution", "version", "state" if any(states) else "summary"):
        table.add_column(header, overflow="fold")
    for info, state in zip(found, states, strict=True):
        # The qualified name is the one to type where a name is taken twice.
        last = state or info.summary
        row = (info.kind, info.qualified, info.distribution, info.version, last)
        table.add_row(*(Text(text) for text in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width: never cut or fold for it
    console.print(table)
