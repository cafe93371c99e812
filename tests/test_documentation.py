"""The pages name tests as their evidence: those must exist. Each method's equations stand on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / page).read_text(encoding="utf-8")):
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in source, f"{page}: {file}::{name}"


@pytest.mark.parametrize(
    ("page", "heading", "equations"),
    [
        ("methods.md", "## random", ("|S_c| = ipc",)),
        ("methods.md", "## herding", ("argmin_x ‖ μ·(i+1) − s_i − f(x) ‖", "Fig. 9")),
        ("methods.md", "## dm", ("L_base = Σ_c ‖R̄_c − S̄_c‖²", "Eqs. 1 and 2")),
        ("methods.md", "## avdd", ("L = base·L_base + icm·L_ICM + cgm·L_CGM", "Eq. 10", "| 4 to 6 |", "| 7 to 9 |")),
        ("methods.md", "## whole", ("over all of T",)),
        ("methods/gradient-matching.md", "## The algorithm", ("D(g, ĝ) = Σ_layers Σ_rows", "DC, Eq. 9", "DSA, Eq. 3")),
        (
            "methods/mtt.md",
            "## The algorithm",
            ("L = ‖θ_T − θ*‖² / ‖θ_0 − θ*‖²", "Eq. 2", "λ_i = λ_{i+1} − β·∂s_i/∂θ_i"),
        ),
    ],
)
def test_a_method_s_page_states_its_equations_with_their_source(
    page: str, heading: str, equations: tuple[str, ...]
) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    part = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    assert [each for each in equations if each not in part] == []
