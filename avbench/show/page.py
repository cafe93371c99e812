"""The index page: all pictures and sounds with what made them, and what is missing with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from avbench.report.html import document, esc
from avbench.show.room import Clip, Exhibit, Room
from avbench.show.style import Picture

_STYLE = """
.room { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.25rem; }
figure { margin: 1.5rem 0; }
figure .pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure img { background: #ffffff; width: 44rem; }
figure img.narrow { width: 33rem; }
figcaption { max-width: 44rem; }
figure h3 { margin-bottom: 0.5rem; }
.sounds td { vertical-align: middle; }
.sounds div { display: inline-block; margin-right: 1rem; }
audio { height: 2rem; width: 15rem; display: block; }
"""


def index_page(title: str, rooms: Sequence[Room], settings: Mapping[str, object]) -> str:
    """The page as HTML; its links are relative, its text escaped."""
    parts = [f"<h1>{esc(title)}</h1>", _contents(rooms), *(_room(room) for room in rooms), _settings(settings)]
    return document(title, "\n".join(parts), style=_STYLE)


def _contents(rooms: Sequence[Room]) -> str:
    if len(rooms) == 1:
        return ""
    links = "".join(f'<li><a href="#{esc(room.folder.name)}">{esc(room.subject.name)}</a></li>' for room in rooms)
    return f"<ul>{links}</ul>"


def _room(room: Room) -> str:
    given = room.subject.set
    size = f"{int(given.labels.numel())} items · {given.storage_bytes():,} bytes"
    facts = f"{given.kind} · {size} · {given.content_hash[:12]}"
    notes = "".join(f"<li>{esc(note)}</li>" for note in given.notes)
    missing = "".join(
        f"<li><strong>{esc(kind)}</strong>: {esc(reason)}</li>"
        for kind, reason in dict.fromkeys((each.kind, each.reason) for each in room.missing)
    )
    return "\n".join(
        [
            f'<section class="room" id="{esc(room.folder.name)}"><h2>{esc(room.subject.name)}</h2>',
            f"<p><small>{esc(facts)}</small></p>",
            f"<p>Notes of the set:</p><ul>{notes}</ul>" if notes else "",
            *(_exhibit(exhibit) for exhibit in room.exhibits),
            f'<h3>Not shown</h3><ul class="missing">{missing}</ul>' if missing else "",
            "</section>",
        ]
    )


def _exhibit(exhibit: Exhibit) -> str:
    pictures = "".join(_picture(picture) for picture in exhibit.pictures)
    sounds = _sounds(exhibit.clips) if exhibit.clips else ""
    files = " · ".join(f'<a href="{_link(p.svg)}">SVG</a> <a href="{_link(p.png)}">PNG</a>' for p in exhibit.pictures)
    return (
        f'<figure class="{esc(exhibit.kind)}"><h3>{esc(exhibit.title)}</h3>'
        f'<div class="pictures">{pictures}</div>{sounds}'
        f"<figcaption>{esc(exhibit.caption)} {files}</figcaption></figure>"
    )


def _picture(picture: Picture) -> str:
    narrow = ' class="narrow"' if picture.width_in < 5 else ""
    image = f'<img{narrow} src="{_link(picture.png)}" alt="{esc(picture.alt)}" loading="lazy">'
    return f'<a href="{_link(picture.svg)}">{image}</a>'


def _sounds(rows: Sequence[tuple[str, Sequence[Clip]]]) -> str:
    lines = "".join(
        f"<tr><th>{esc(name)}</th><td>{''.join(_clip(clip) for clip in clips)}</td></tr>" for name, clips in rows
    )
    return f'<table class="sounds">{lines}</table>'


def _clip(clip: Clip) -> str:
    player = f'<audio controls preload="none" src="{_link(clip.file)}"></audio>'
    return f"<div><small>{esc(clip.label)}</small>{player}</div>"


def _settings(settings: Mapping[str, object]) -> str:
    text = json.dumps(dict(settings), indent=2, ensure_ascii=False, default=str)
    return f"<section><h2>Made with</h2><pre>{esc(text)}</pre></section>"


def _link(file: str) -> str:
    return esc(quote(file))
