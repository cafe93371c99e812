"""LaTeX: what is written compiles with pdflatex, whatever a label holds, and shows what the board holds."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import leaderboard
from test_board import Grid

#: All that LaTeX reads as a command, what avbench itself writes, and letters that its fonts lack.
HOSTILE = [
    r'dm[note="a_b{c}%d&e#f~g^h\i$j<k>l"]',
    "dm[note=\"Δ ≡ ± → × – ≈ · | 'q' `b` --- é ß\"]",
    'dm[note="日本\ud7a3 \U0001f600 \u0301 \ue000 \u202e"]',
    "dm[a=1]",
    "[dm] \\end{table} \\input{x} %",
]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """A best, a second behind it, an equal, an incomplete row, a reported number, and all hostile labels."""
    made = Grid(tmp_path / "runs")
    there = {"dataset": "vggs10k", "protocol": "recognition-code", "planned": 3}
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        made.add("avdd", seed, [0.8 + 2 * noise], equals="same", **there)
        made.add("dm", seed, [0.8 + 2 * noise], label="dm[match=avdd]", lr=0.3, equals="same", **there)
        made.add("dm", seed, [0.5 + noise], **there)
        made.add("random", seed, [0.2 + 1.5 * noise], **there)
        made.add("whole", seed, [0.9], ipc=0, **there)
    for number, label in enumerate(HOSTILE):
        made.add("own", 0, [0.1], label=label, lr=float(number), **there)
    return made


def compiled(tex: Path) -> str:
    """Compile with pdflatex, a warning about width or references being a failure; returns the text of the log."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-recommended)")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", tex.name]
    for _ in range(2):  # longtable measures its columns at first
        done = subprocess.run(command, cwd=tex.parent, capture_output=True, check=False, timeout=120)
    log = tex.with_suffix(".log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-3000:]
    assert tex.with_suffix(".pdf").stat().st_size > 5000
    for fault in ("Missing character", "multiply defined", "Undefined", "Float too large"):
        assert fault not in log, log
    return log


def test_a_document_compiles_whatever_the_labels_hold(grid: Grid, tmp_path: Path) -> None:
    tex = tmp_path / "board.tex"
    assert leaderboard(grid, "--format", "latex", "--standalone", "-o", str(tex)) == 0
    compiled(tex)


def test_a_table_compiles_in_a_document_that_loads_what_its_first_line_names(grid: Grid, tmp_path: Path) -> None:
    """Also under T1, in which other characters are active or missing than under OT1."""
    assert leaderboard(grid, "--format", "latex", "--group-by", "ipc", "-o", str(tmp_path / "board.tex")) == 0
    first = (tmp_path / "board.tex").read_text(encoding="utf-8").splitlines()[0]
    (packages,) = re.findall(r"needs: (.*)$", first)
    paper = tmp_path / "paper.tex"
    paper.write_text(
        f"\\documentclass{{article}}\\usepackage[T1]{{fontenc}}\\usepackage{{lmodern}}{packages}\n"
        "\\begin{document}\\tableofcontents\\listoftables\\input{board}\\end{document}\n",
        encoding="utf-8",
    )
    compiled(paper)


def test_a_long_board_breaks_over_pages_and_loses_no_row(tmp_path: Path) -> None:
    grid = Grid(tmp_path / "runs")
    for number in range(80):
        grid.add("dm", 0, [0.5], planned=1, label=f"dm[lr={number + 1}]", lr=float(number + 1))
    tex = tmp_path / "board.tex"
    assert leaderboard(grid, "--format", "latex", "--standalone", "-o", str(tex)) == 0
    text = tex.read_text(encoding="utf-8")
    assert text.count("dm[lr=") == 80 and "\\begin{longtable}" in text and "{longtable}" in text.splitlines()[1]
    (pages,) = re.findall(r"Output written on .*\((\d+) pages?", compiled(tex))
    assert int(pages) >= 2


def test_marks_symbols_and_text_are_what_the_board_holds(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaderboard(grid, "--format", "latex") == 0
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    rows = {line.split(" & ")[1]: line for line in lines if line.count(" & ") > 5}
    assert r"\textbf{82.0 \ensuremath{\pm} 1.6}" in rows[r"\textbf{avdd}"]
    assert r"\textbf{dm[match=avdd] \ensuremath{\equiv} avdd}" in rows
    assert r"\underline{51.0 \ensuremath{\pm} 0.8}" in rows[r"\underline{dm}"]
    assert "textbf" not in rows["random"] and "underline" not in rows["random"]
    assert r"dm[note=''a\_b\{c\}\%d\&e\#f\textasciitilde{}g\^{}h\textbackslash{}i\$j\ensuremath{<}k" in text
    assert "-{}-{}-" in text and "U+65E5U+672C" in text and r"\ensuremath{\Delta} reported" in text
    # A rule at the top, under the head, between the IPCs and at the bottom.
    rules = [line for line in lines if line.startswith("\\") and line.endswith("rule")]
    assert rules == ["\\toprule", "\\midrule", "\\midrule", "\\bottomrule"]
    (caption,) = (line for line in lines if line.startswith("\\caption"))
    for fact in ("vggs10k (fingerprint f1)", "recognition-code version 1", "accuracy", "TMLR 2024"):
        assert fact in caption


def test_each_table_has_a_label_of_its_own(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    grid.add("dm", 0, [0.5], planned=1, precision="float64", dataset="vggs10k", protocol="recognition-code")
    assert leaderboard(grid, "--format", "latex") == 0
    labels = re.findall(r"\\label\{(.*?)\}", capsys.readouterr().out)
    assert len(labels) == len(set(labels)) == 2
