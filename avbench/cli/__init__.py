"""The command line: one module a verb. Importing it imports no torch."""

from __future__ import annotations

import os
import sys

import typer

from avbench import __version__
from avbench.cli.env import env
from avbench.cli.leaderboard import leaderboard
from avbench.cli.list import list_plugins, show_plugins
from avbench.cli.prepare import prepare
from avbench.cli.run import run
from avbench.errors import AvbenchError

app = typer.Typer(
    name="avbench",
    help="Benchmark audio-visual dataset distillation: run methods on datasets, judge them alike, print a board.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"avbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Exit status: 0 done, 2 the request is wrong, 3 some jobs failed, 130 interrupted."""


app.command("run")(run)
app.command("list")(list_plugins)
app.command("plugins")(show_plugins)
app.command("prepare")(prepare)
app.command("leaderboard")(leaderboard)
app.command("env")(env)


def main() -> None:
    """Entry point: errors of ours become one line and an exit status, never a traceback."""
    try:
        app()
    except AvbenchError as error:
        print(f"avbench: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("avbench: interrupted; the same command goes on where it stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone: nothing is left to say, and nothing more must be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
