"""``avbench check``: the conformance kit on one plugin, each check told in words."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.tables import print_table

if TYPE_CHECKING:
    from avbench.testing.supervising import Outcome

#: Seconds that one check may take.
_LIMIT_S = 300.0


def check(
    kind: str = typer.Argument(help="method, architecture, fusion, protocol, dataset, executor or hook."),
    name: str = typer.Argument(help="The plugin, with options where it needs some: dm or 'dm\\[steps=3]'."),
    settings: list[str] = typer.Option([], "--set", help="PLUGIN.OPTION=VALUE; may be repeated."),
    source: Path | None = typer.Option(None, help="A dataset's raw copy: prepares and audits it, too."),
    timeout_s: float = typer.Option(_LIMIT_S, min=1.0, help="Seconds that one check may take."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check that a plugin keeps its contract; what fails is told in words. Exit status 3 where something does."""
    from avbench.errors import RequestError, nearest
    from avbench.grammar import parse_settings, parse_variants
    from avbench.plugins import KINDS, find
    from avbench.testing.supervising import supervise

    kinds = {each.removesuffix("s"): each for each in KINDS}
    singular = kind if kind in kinds else kind.removesuffix("s")
    if singular not in kinds:
        raise RequestError(f"unknown kind of plugin {kind!r}; {nearest(kind, kinds)}")
    variants = parse_variants(name, "NAME")
    if len(variants) > 1:
        raise RequestError(f"NAME {name!r}: one plugin is checked at a time.")
    (variant,) = variants
    _, info = find(kinds[singular], variant.name)
    if source is not None and singular != "dataset":
        raise RequestError(f"--source is a dataset's raw copy: a {singular} has none.")
    if source is not None and not source.exists():
        raise RequestError(f"--source {source}: there is no such file or folder.")
    by_set = parse_settings(settings)
    known = {variant.name, info.name}
    for owner in by_set:
        if owner not in known:
            raise RequestError(f"--set {owner}.…: {variant.name!r} is checked; {nearest(owner, known)}")
    options = {**by_set.get(info.name, {}), **by_set.get(variant.name, {}), **variant.given}
    outcomes = supervise(f"{singular}:{variant.name}", options, source, timeout_s, _begin)
    if as_json:
        plain = {"kind": singular, "name": variant.name, "distribution": info.distribution, "version": info.version}
        typer.echo(json.dumps({**plain, "checks": [asdict(outcome) for outcome in outcomes]}, indent=2))
    else:
        print_table(("check", "result", "reason"), [(o.check, o.status, o.reason) for o in outcomes])
    _summarise(f"{singular} {variant.label}", outcomes)


def _begin(name: str) -> None:
    """Tell what is being checked, on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[Kchecking {name} …", end="", file=sys.stderr, flush=True)


def _summarise(what: str, outcomes: list[Outcome]) -> None:
    counts = {status: sum(o.status == status for o in outcomes) for status in ("ok", "failed", "not checked")}
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"{what}: " + ", ".join(f"{count} {status}" for status, count in counts.items()), file=sys.stderr)
    if counts["failed"]:
        raise typer.Exit(3)
