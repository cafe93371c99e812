"""Boards as LaTeX tables in the style of booktabs. Whatever a name holds, it is set as text and compiles.

Only packages that every TeX distribution carries are asked for, and no font encoding: what is written compiles under
OT1 and T1 alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from tabulate import LATEX_ESCAPE_RULES, SEPARATING_LINE, tabulate

from avbench.report.board import Board
from avbench.report.render import ALIGN, cells, header, sources
from avbench.report.selection import Section

#: A float can't be longer than a page: from here on a table may break.
_LONG = 35
_SYMBOLS = {
    "Δ": r"\ensuremath{\Delta}",
    "≡": r"\ensuremath{\equiv}",
    "±": r"\ensuremath{\pm}",
    "→": r"\ensuremath{\rightarrow}",
    "×": r"\ensuremath{\times}",
    "≈": r"\ensuremath{\approx}",
    "−": r"\ensuremath{-}",
    "λ": r"\ensuremath{\lambda}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "·": r"\ensuremath{\cdot}",
    # In the encoding OT1 a bar is a dash, and a straight quote does not exist.
    "|": r"\ensuremath{|}",
    '"': "''",
}
#: Stand for markup where tabulate escapes everything; no name can hold them, for :func:`_settable` takes them out.
_BOLD, _UNDERLINED, _END = "\ue000", "\ue001", "\ue002"
_AFTER = str.maketrans({**_SYMBOLS, _BOLD: r"\textbf{", _UNDERLINED: r"\underline{", _END: "}"})
_LETTERS = "ßæÆøØåÅœŒłŁ"
_MARKS = (
    "Bold: better than every other at the same IPC beyond the noise, in pairs over seeds (95 %); "
    "underlined: the same among those that are left."
)


def to_latex(parts: Sequence[Section], notes: Sequence[str] = (), standalone: bool = False) -> str:
    """A table for each board, to be read in by a document, or a whole document.

    The first line names what the document's preamble needs. A board of many rows is a ``longtable``, which may break
    over pages, any other a floating ``table``.

    Args:
        notes: sentences about all boards, set in front of them.
        standalone: a document that compiles by itself.
    """
    names = _Names()
    blocks = [f"\\noindent {_text(note)}\\par" for note in notes]
    for part in parts:
        if part.heading:
            blocks.append(f"\\section*{{{_text(part.heading)}}}")
        blocks += [_table(board, names, part.heading) for board in part.boards]
    long = any("{longtable}" in block for block in blocks)
    needed = "".join(f"\\usepackage{{{name}}}" for name in ("booktabs", *(["longtable"] if long else [])))
    body = "\n\n".join(blocks)
    if not standalone:
        return f"% avbench leaderboard. The preamble needs: {needed}\n{body}\n"
    return (
        "\\documentclass{article}\n"
        f"\\usepackage[landscape,margin=12mm]{{geometry}}{needed}\n"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )


class _Names:
    """Labels to refer to tables by, each once."""

    def __init__(self) -> None:
        self._given = set[str]()

    def label(self, board: Board, section: str) -> str:
        a = board.about
        facts = [a["dataset"], a["fingerprint"][:8], a["protocol"], f"v{a['protocol_version']}", a["architecture"]]
        words = re.sub(r"[^a-z0-9]+", "-", "-".join([*facts, a["fusion"], section]).lower()).strip("-")
        name, count = words, 1
        while name in self._given:
            count += 1
            name = f"{words}-{count}"
        self._given.add(name)
        return f"tab:{name}"


def _table(board: Board, names: _Names, section: str) -> str:
    caption, label = _text(_caption(board)), names.label(board, section)
    headers, lines = cells(board)
    align = ["left" if name in ALIGN else "right" for name in headers]
    safe = [_settable(name) for name in headers]
    tabular = tabulate(
        list(_lines(board, headers, lines)), safe, tablefmt="latex_booktabs", colalign=align, disable_numparse=True
    )
    tabular = _finished(tabular)
    if len(lines) <= _LONG:
        return (
            f"\\begin{{table}}[htbp]\n\\centering\\small\\setlength{{\\tabcolsep}}{{4pt}}\n"
            f"\\caption{{{caption}}}\n\\label{{{label}}}\n{tabular}\n\\end{{table}}"
        )
    columns, head, rows = _pieces(tabular)
    return (
        f"\\begingroup\\small\\setlength{{\\tabcolsep}}{{4pt}}\n\\begin{{longtable}}{{{columns}}}\n"
        f"\\caption{{{caption}}}\\label{{{label}}}\\\\\n{head}\n\\endhead\n\\bottomrule\n\\endlastfoot\n{rows}\n"
        "\\end{longtable}\\endgroup"
    )


def _pieces(tabular: str) -> tuple[str, str, str]:
    """Column types, head with its rules, and rows of a tabular environment."""
    first, *lines, _, _ = tabular.splitlines()
    end = lines.index(r"\midrule") + 1
    return first.removeprefix(r"\begin{tabular}{").removesuffix("}"), "\n".join(lines[:end]), "\n".join(lines[end:])


def _lines(board: Board, headers: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The rows as they go to tabulate, a rule where another IPC or modality begins."""
    own = [headers.index(header(board, part)) for part in board.parts if part not in board.secondary]
    previous = None
    for line, row in zip(lines, board.rows.to_dict("records"), strict=True):
        place = (row["ipc"], row["modality"])
        if previous not in (None, place):
            yield [SEPARATING_LINE]
        previous = place
        safe = [_settable(text) for text in line]
        mark = _BOLD if row["best"] else _UNDERLINED if row["second"] else ""
        if mark:
            of_score = [headers.index(header(board, row["modality"]))] if row["modality"] in board.parts else own
            for index in (headers.index("method"), *of_score):
                safe[index] = f"{mark}{safe[index]}{_END}"
        yield safe


def _caption(board: Board) -> str:
    a = board.about
    metric = a["metric"] or "no score"
    sentences = [
        f"{a['dataset']} (fingerprint {a['fingerprint'][:8]}), "
        f"protocol {a['protocol']} version {a['protocol_version']}, "
        f"network {a['architecture']}, fusion {a['fusion']}, {a['precision']}, preset {a['preset']}.",
        f"Ranked by {metric}: mean ± standard deviation over distillation seeds × networks.",
        "Time is that of distilling, a seed; bytes are what must be stored to train.",
        *([_MARKS] if board.rows["best"].any() else []),
        *sources(board),
    ]
    return " ".join(sentences)


def _text(text: str) -> str:
    """``text`` as LaTeX sets it letter by letter, outside of a table."""
    return _finished("".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in _settable(text)))


def _finished(escaped: str) -> str:
    """Escaped text with its symbols and markup as commands; two hyphens stay two."""
    return re.sub("-(?=-)", "-{}", escaped).translate(_AFTER)


def _settable(text: str) -> str:
    """``text`` without letters that only other fonts have: those are called by their number, ``U+65E5``."""
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter if _has(letter) else f"U+{ord(letter):04X}" for letter in plain)


def _has(letter: str) -> bool:
    accented = letter.isalpha() and "\u00c0" <= letter <= "\u00ff" and unicodedata.decomposition(letter)
    return (letter.isascii() and letter.isprintable()) or letter in _SYMBOLS or letter in _LETTERS or bool(accented)
