"""What ``avbench evaluate`` does once its options are read: one set, or a published release of them. Imports torch."""

from __future__ import annotations

import io
import json
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from math import isnan
from pathlib import Path

import typer

from avbench.adopt import Adoption, adopt
from avbench.cli import parsing, running
from avbench.cli.starting import start_from
from avbench.cli.tables import print_table
from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.formats import Found, Reading, read_sets
from avbench.grid import Planned, Request
from avbench.plan import plan_cells
from avbench.release import Comparison, PublishedSet, Release, compare, find_folder, read_release
from avbench.results import RunDirectory


@dataclass(frozen=True)
class Asked:
    """How sets are read and judged, whichever they are. The request's datasets are not known yet."""

    request: Request
    reading: Reading
    how: running.How
    name: str
    format: str
    init_weights: Path | None

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.how.out)


def judge(path: Path, dataset: str, asked: Asked) -> int:
    """Judge the sets in one file or folder; returns the exit status."""
    info = parsing.one_store(dataset, asked.how.data)
    found = _read(path, info, asked)
    planned = _adopted(path, info, found, asked)
    return running.carry_out(plan_cells(planned, asked.directory, (info,), asked.request.retry_failed), asked.how)


def _read(path: Path, info: StoreInfo, asked: Asked) -> list[Found]:
    found = read_sets(path, info, asked.reading, asked.format)
    for note in dict.fromkeys(note for each in found for note in each.set.notes):
        print(f"note: {note}", file=sys.stderr)
    return found


def _adopted(path: Path, info: StoreInfo, found: list[Found], asked: Asked) -> list[Planned]:
    """Sets as cells of the run directory, to be judged as asked."""
    running.check_writable(asked.how.out)
    request = replace(asked.request, datasets=(info,))
    request = start_from(request, asked.init_weights, {each.set.modality for each in found}, asked.how.out)
    return adopt(found, Adoption(path, asked.name, request, ("avbench", *sys.argv[1:])), asked.directory)


# --- a release ----------------------------------------------------------------------------------------------------


def judge_release(grid: str, source: Path, asked: Asked) -> int:
    """Judge all sets of a release that lie under ``source``, and set them beside what was reported.

    Raises:
        RequestError: the grid can't be read, or none of its sets can be judged.
    """
    release = read_release(grid)
    if not source.is_dir():
        raise RequestError(f"--source {source}: there is no such folder.")
    told = replace(
        asked,
        request=replace(
            asked.request,
            preset=asked.request.preset or release.preset,
            protocols=asked.request.protocols or parsing.variants(release.protocol, "--protocol"),
        ),
        reading=replace(asked.reading, factor=asked.reading.factor or release.factor),
        name=asked.name or release.label,
    )
    infos: dict[str, StoreInfo] = {}
    planned: dict[PublishedSet, list[Planned]] = {}
    for each in release.sets:
        try:
            planned[each] = _published(each, source, infos, told)
        except RequestError as error:
            print(f"skipped: {each.name}: {error}", file=sys.stderr)
    if not planned:
        raise RequestError(f"--grid {grid}: none of its {len(release.sets)} sets could be judged; see above.")
    return _score(release, planned, tuple(infos.values()), told)


def _published(each: PublishedSet, source: Path, infos: dict[str, StoreInfo], asked: Asked) -> list[Planned]:
    """One set of a release, ready to be judged.

    Raises:
        RequestError: it is not there, its store is not prepared, or it is not what the release says.
    """
    folder = find_folder(source, each)
    info = infos.get(each.dataset) or parsing.one_store(each.dataset, asked.how.data)
    found = _read(folder, info, asked)
    held = {int(one.set.labels.numel()) // len(info.classes) for one in found}
    if held != {each.ipc}:
        raise RequestError(f"{folder} holds {', '.join(map(str, sorted(held)))} items a class, not {each.ipc}.")
    made = _adopted(folder, info, found, asked)
    infos[each.dataset] = info
    return made


def _score(
    release: Release, planned: dict[PublishedSet, list[Planned]], infos: tuple[StoreInfo, ...], asked: Asked
) -> int:
    cells = [cell for of_set in planned.values() for cell in of_set]
    plan = plan_cells(cells, asked.directory, infos, asked.request.retry_failed)
    boards = io.StringIO()
    with redirect_stdout(boards) if asked.how.as_json else nullcontext():
        status = running.carry_out(plan, asked.how)
    rows = [
        row
        for each, of_set in planned.items()
        for row in compare(release, each, [task for cell in of_set for task in cell.evaluations], asked.directory)
    ]
    if asked.how.as_json:
        compared = [{**_plain(row), "source": release.source} for row in rows]
        found = json.loads(boards.getvalue()) | {"comparison": compared}
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print(release, rows)
    return status


def _plain(row: Comparison) -> dict[str, str | int | float | None]:
    values = {**asdict(row), "difference": row.difference}
    return {key: None if isinstance(value, float) and isnan(value) else value for key, value in values.items()}


def _print(release: Release, rows: list[Comparison]) -> None:
    headers = ("set", "networks", "measured %", "reported %", "difference", "standard errors", "judged by")
    lines = [
        (
            row.name,
            str(row.networks),
            f"{row.mean:.2f} ± {row.std:.2f}" if row.networks else "failed",
            f"{row.reported_mean:.2f} ± {row.reported_std:.2f}",
            f"{row.difference:+.2f}" if row.networks else "–",
            "–" if isnan(row.standard_errors) else f"{row.standard_errors:+.1f}",
            row.judged_by,
        )
        for row in rows
    ]
    print_table(headers, lines)
    typer.echo(f"reported: {release.source}; std of the measured over all networks, as of the reported.")
