"""``avbench submit``: what is published of a run, as a folder or an archive that others can verify."""

from __future__ import annotations

from pathlib import Path

import typer


def submit(
    directory: Path = typer.Argument(help="A run directory."),
    output: Path = typer.Option(..., "-o", "--output", help="A new folder, or a new file ending in .tar.gz."),
    name: str = typer.Option("", help="What the submission is called. Default: the output's name."),
    contact: str = typer.Option("", help="Published: who answers questions."),
    artefacts_url: str = typer.Option("", help="Where artefacts lie that are left out."),
    max_artefact_mib: float | None = typer.Option(
        None, min=0, help="Leave out larger artefacts; their checksums stay. Default: none is left out."
    ),
) -> None:
    """Make a submission of a finished run: records, artefacts, checksums; no media, no logs, no host names."""
    import sys
    from tempfile import TemporaryDirectory

    from avbench.errors import RequestError
    from avbench.verification.archive import SUFFIX, write_archive
    from avbench.verification.integrity import check_integrity
    from avbench.verification.submission import Submission, make_submission, remaining_paths
    from avbench.verification.tiers import write_verification

    packed = output.name.endswith(SUFFIX)
    largest_bytes = None if max_artefact_mib is None else max_artefact_mib * 2**20
    about = Submission(name or output.name.removesuffix(SUFFIX), contact, artefacts_url, largest_bytes)
    about.check()
    if output.exists():
        raise RequestError(f"--output {output} exists: give a new one.")
    results = check_integrity(directory)
    with TemporaryDirectory(prefix="avbench-submit-") as temporary:
        folder = Path(temporary) / about.name if packed else output
        described = make_submission(results, about, folder)
        made = check_integrity(folder)
        if made.findings.problems:
            first = made.findings.problems[0]
            raise RequestError(f"what was made fails a check: {first.where}: {first.text}. Please report this.")
        write_verification(made, ())
        if packed:
            write_archive(folder, output, about.name)
    for path in remaining_paths(results):
        print(f"note: {path} is part of a key and is published as it is.", file=sys.stderr)
    left_out = described["artefacts_left_out"]
    if left_out:
        where = artefacts_url or "nowhere: give --artefacts-url once they are somewhere"
        print(f"note: {left_out} artefacts are left out; they lie {where}.", file=sys.stderr)
    typer.echo(f"{output}: {described['cells']} cells, {described['evaluations']} evaluations")
