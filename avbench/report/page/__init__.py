"""The leaderboard as one page: tables to sort and filter, plots and heat maps, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from avbench.report.board import Board
from avbench.report.html import document, esc
from avbench.report.page.choices import controls, facts
from avbench.report.page.heat import heat_maps
from avbench.report.page.marks import Marks
from avbench.report.page.plots import plots
from avbench.report.page.table import board_table

Link = Callable[[Path], str]

_READING = """
<details class="reading"><summary>How to read this</summary>
<ul>
<li>A number is the mean ± standard deviation over all networks of all seeds; the bars in plots are the
deviation.</li>
<li>Rows rank within one IPC by the score of what was distilled. <b>Bold</b> beats every other row beyond the noise of
the seeds; <u>underlined</u> beats all but the bold one.</li>
<li>Δ baseline, Δ reported: the difference, in points, to the baseline of this board and to what a paper reports.</li>
<li>≡ names the row that a row equals by construction. <span class="tag">incomplete</span> rows lack seeds or networks
and have no rank.</li>
<li>Ratio: the share of the training samples that is kept. Bytes: what must be stored to train. Time: what distilling
one seed took; ≈ where cells shared a job.</li>
</ul>
</details>
"""


def render_page(boards: Sequence[Board], *, notes: Sequence[str] = (), link: Link | None = None) -> str:
    """Boards as one self-contained HTML page.

    Without script it shows every table, plot and heat map; with script the tables also sort and everything filters.

    Args:
        notes: what a reader must know of all boards, as plain text.
        link: the address of a record's file, quoted as addresses are; ``None``: rows have no links.
    """
    marks = Marks.of(boards)
    sections = [_section(number, board, marks, link) for number, board in enumerate(boards, 1)]
    body = [
        "<header><h1>avbench leaderboard</h1>",
        f'<p class="quiet">{_counted(len(boards), "board")}, '
        f"{_counted(sum(len(board.rows) for board in boards), 'row')}</p>",
        _notes(notes),
        _READING if boards else "<p>There is no board: nothing was evaluated yet.</p>",
        "</header>",
        controls(boards) if boards else "",
        marks.symbols(),
        *sections,
        heat_maps(boards),
    ]
    return document(
        "avbench leaderboard",
        "\n".join(filter(None, body)),
        script=_part("page.js"),
        style=_part("page.css"),
        alone=True,
    )


def _section(number: int, board: Board, marks: Marks, link: Link | None) -> str:
    """A board: what it is about, its plots, its table."""
    about = board.about
    common = board.title.split(" · ", 1)[1]
    return f"""<section class="board" id="board-{number}" aria-labelledby="title-{number}" {facts(board)}>
<h2 id="title-{number}">{esc(about["dataset"])} <small>{esc(str(about["fingerprint"])[:8])}</small></h2>
<p class="quiet">{esc(common)}</p>
{board_table(board, marks, link)}
{plots(board, marks)}
</section>"""


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{esc(note)}</li>" for note in notes)}</ul>' if notes else ""


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@cache
def _part(name: str) -> str:
    return (files("avbench.report.page") / name).read_text(encoding="utf-8")
