"""``avbench list`` and ``avbench plugins``: what is installed, without and with importing it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import typer

from avbench.cli.tables import print_table
from avbench.errors import PluginError, RequestError, nearest
from avbench.plugins import KINDS, PluginInfo, guard, listing, load

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


def show_plugins(
    name: str = typer.Argument("", help="Show the options of this plugin. Default: check them all."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Import every plugin and report the broken ones, or show the options of one plugin."""
    if name:
        _show_options(name, as_json)
        return
    from avbench.plugins import audit

    report = audit()
    if as_json:
        plain = [{**info.as_json(), "problem": problem} for info, problem in report]
        typer.echo(json.dumps(plain, indent=2))
        return
    _print([info for info, _ in report], [problem or "ok" for _, problem in report])


def _show_options(name: str, as_json: bool) -> None:
    """The options of the plugin, or of each plugin of that name where kinds share it."""
    from avbench.options import describe

    kinds = [kind for kind in _LISTED if any(name in (i.name, f"{i.distribution}:{i.name}") for i in listing(kind))]
    if not kinds:
        known = [info.qualified for kind in _LISTED for info in listing(kind)]
        raise PluginError(f"unknown plugin {name!r}; {nearest(name, known)}", plugin=name, phase="find")
    loaded = [load(kind, name) for kind in kinds]
    found = []
    for each in loaded:
        with guard(each.info, "options"):
            found.append((each.info, describe(each.target.Config)))
    if as_json:
        plain = [{**info.as_json(), "options": [asdict(option) for option in options]} for info, options in found]
        typer.echo(json.dumps(plain, indent=2, default=str))
        return
    for info, options in found:
        typer.echo(f"{info.kind[:-1]} {info.qualified} ({info.distribution} {info.version}): {info.summary}")
        rows = [(option.name, option.type, _plain(option.default), option.help) for option in options]
        print_table(("option", "type", "default", "meaning"), rows)


def _plain(default: Any) -> str:
    """A default as it is typed on the command line."""
    if default is None or isinstance(default, bool):
        return str(default).lower()
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _print(found: list[PluginInfo], states: list[str]) -> None:
    # The qualified name is the one to type where a name is taken twice.
    rows = [
        (info.kind, info.qualified, info.distribution, info.version, state or info.summary)
        for info, state in zip(found, states, strict=True)
    ]
    print_table(("kind", "name", "distribution", "version", "state" if any(states) else "summary"), rows)
