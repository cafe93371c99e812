"""The command line: one module a verb. Importing it imports no torch."""

from __future__ import annotations

import errno
import os
import sys

import typer

from avbench import __version__
from avbench.cli.cancel import cancel
from avbench.cli.check import check
from avbench.cli.compare import compare
from avbench.cli.data import app as data
from avbench.cli.env import env
from avbench.cli.evaluate import evaluate
from avbench.cli.export import export
from avbench.cli.leaderboard import leaderboard
from avbench.cli.list import list_plugins, show_plugins
from avbench.cli.logs import logs
from avbench.cli.new import new
from avbench.cli.prepare import CONTEXT, prepare
from avbench.cli.run import run
from avbench.cli.show import show
from avbench.cli.status import status
from avbench.cli.submit import submit
from avbench.cli.verify import verify
from avbench.errors import AvbenchError

_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
#: What is wrong with a path that somebody gave.
_WRONG_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)

app = typer.Typer(
    name="avbench",
    epilog="Exit status: 0 done, 1 the output can't be written, 2 the request is wrong, 3 some tasks or checks failed, "
    "130 interrupted (143 and 129: by SIGTERM and SIGHUP).",
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
    """Benchmark audio-visual dataset distillation: run methods on datasets, judge them alike, print a board."""


app.command("run")(run)
app.command("evaluate")(evaluate)
app.command("export")(export)
app.command("list")(list_plugins)
app.command("plugins")(show_plugins)
app.command("new")(new)
app.command("prepare", context_settings=CONTEXT)(prepare)
app.add_typer(data, name="data")
app.command("leaderboard")(leaderboard)
app.command("compare")(compare)
app.command("show")(show)
app.command("status")(status)
app.command("logs")(logs)
app.command("cancel")(cancel)
app.command("verify")(verify)
app.command("submit")(submit)
app.command("check")(check)
app.command("env")(env)


def main() -> None:
    """Entry point: errors of ours become one line and an exit status, never a traceback."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, os.fdopen(_nowhere(number), "w", encoding="utf-8"))
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except AvbenchError as error:
        print(f"avbench: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError:
        print("avbench: out of memory; try fewer --jobs. What was finished is kept.", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno in _WRONG_PATH and error.filename is not None:
            print(f"avbench: {error.filename}: {error.strerror}; name another file or folder.", file=sys.stderr)
            sys.exit(2)
        if error.errno not in _UNWRITABLE:
            raise
        # What is still buffered must not be tried again at exit.
        _nowhere(sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # there, whoever read our output has gone
            print(f"avbench: can't write {error.filename or 'the output'}: {error.strerror}.", file=sys.stderr)
        sys.exit(1)


def _nowhere(number: int) -> int:
    """Make a file descriptor lead nowhere."""
    opened = os.open(os.devnull, os.O_WRONLY)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return number
