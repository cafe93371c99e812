"""Where things are and where they go: what several verbs share."""

from __future__ import annotations

from pathlib import Path

import typer

from avbench.errors import RequestError

DATA: Path = typer.Option(
    Path("data"), envvar="AVBENCH_DATA", help="Folder of the prepared datasets.", rich_help_panel="Where"
)


def check_run_directory(directory: Path) -> None:
    """Refuse what is no folder.

    Raises:
        RequestError: says which folder is meant.
    """
    if not directory.is_dir():
        raise RequestError(f"{directory} is not a run directory: give the folder of avbench run --out.")


def write_output(text: str, output: Path | None) -> None:
    """Print a text, or write it whole into the file that ``--output`` names.

    Raises:
        RequestError: it can't be written there.
    """
    from avbench.results import write_atomically

    if output is None:
        typer.echo(text, nl=False)
        return
    if output.is_dir():
        raise RequestError(f"--output {output} is a folder: give a file's name.")
    try:
        write_atomically(output, text)
    except OSError as error:
        raise RequestError(f"--output {output}: can't be written ({error.strerror}); choose another file.") from None
