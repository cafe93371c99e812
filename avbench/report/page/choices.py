"""What a reader can choose on the page: which boards and which rows."""

from __future__ import annotations

from collections.abc import Sequence

from avbench.report.board import Board
from avbench.report.html import esc

#: Of a board: its attribute and what a reader calls it.
_OF_BOARDS = {"dataset": "Dataset", "protocol": "Protocol", "architecture": "Architecture", "fusion": "Fusion"}
#: Of a row.
_OF_ROWS = {"ipc": "IPC", "modality": "Distilled"}
MODALITIES = {"a": "audio", "v": "visual", "av": "audio and visual"}


def facts(board: Board, *names: str) -> str:
    """The attributes of an element that shows a board, by which it is chosen: all, or those of ``names``."""
    shown = {name: value for name, value in _facts(board).items() if not names or name in names}
    return " ".join(f'data-{name}="{esc(value)}"' for name, value in shown.items())


def row_facts(ipc: int, modality: str) -> str:
    """The attributes of a row, by which it is chosen."""
    return f'data-ipc="{ipc}" data-modality="{esc(modality)}"'


def _facts(board: Board) -> dict[str, str]:
    about = board.about
    return {
        "dataset": f"{about['dataset']} ({str(about['fingerprint'])[:8]})",
        "protocol": f"{about['protocol']} v{about['protocol_version']}",
        "architecture": str(about["architecture"]),
        "fusion": str(about["fusion"]),
    }


def controls(boards: Sequence[Board]) -> str:
    """The form above the boards; hidden until the script that serves it runs. A choice of one is none."""
    of_boards = [_facts(board) for board in boards]
    fields = [
        _select(name, label, {value: value for value in sorted({facts[name] for facts in of_boards})})
        for name, label in _OF_BOARDS.items()
    ]
    ipcs = sorted({int(ipc) for board in boards for ipc in board.rows["ipc"]}, key=lambda ipc: (ipc == 0, ipc))
    modalities = {str(modality) for board in boards for modality in board.rows["modality"]}
    values = {
        "ipc": {str(ipc): str(ipc) if ipc else "all (whole data)" for ipc in ipcs},
        "modality": {modality: MODALITIES.get(modality, modality) for modality in sorted(sorted(modalities), key=len)},
    }
    fields += [_select(name, label, values[name]) for name, label in _OF_ROWS.items()]
    return f"""<form id="choices" role="search" aria-label="Choose boards and rows" hidden>
<div class="words"><label for="words">Filter</label>
<input type="search" id="words" autocomplete="off" spellcheck="false" placeholder="method, dataset, …"></div>
{"".join(fields)}
<button type="reset">Reset</button>
<output id="status" aria-live="polite"></output>
</form>"""


def _select(name: str, label: str, values: dict[str, str]) -> str:
    if len(values) < 2:
        return ""
    options = "".join(f'<option value="{esc(value)}">{esc(text)}</option>' for value, text in values.items())
    return f"""<div><label for="choice-{name}">{label}</label>
<select id="choice-{name}" data-choice="{name}"><option value="">all</option>{options}</select></div>"""
