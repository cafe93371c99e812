"""The pages as a site: ``python -m sphinx -W -b html docs OUT``, with the extra ``docs``.

The pages are plain Markdown that links files of the repository. Sphinx sees the folder ``docs`` alone, so two things
happen when it reads them: ``index.md`` gives the table of contents, and links that leave the folder are turned to where
they lead on the site.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parent.parent
# Read, not asked of an installation: the site can then be built without torch.
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
author = _PROJECT["authors"][0]["name"]
copyright = f"{author}, {_PROJECT['license']}"
version = release = _PROJECT["version"]
extensions = ["myst_parser"]
highlight_language = "sh"  # a block without a language holds commands
html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
exclude_patterns = ["examples/*/tests", "**/.pytest_cache"]
# GitHub gives every heading an anchor; links rely on it.
myst_heading_anchors = 6
# Boards are headed as they are where several are printed after each other: by a third-level heading.
suppress_warnings = ["myst.header"]

#: Pages that show a file from outside ``docs``: on the site its text stands in their place.
_SHOWN = {
    "quickstart.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "leaderboard.md": "leaderboard/README.md",
    "reported.md": "leaderboard/reported/README.md",
}
_PAGES = {file: f"docs/{page}" for page, file in _SHOWN.items()}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]+)\]\((?P<target>[^()\s]+)\)")
_PICTURE = re.compile(r"!\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _read)


def _read(app: Sphinx, document: str, source: list[str]) -> None:
    page = f"{document}.md"
    file = _SHOWN.get(page, f"docs/{page}")
    if page in _SHOWN:
        path = _ROOT / file
        app.env.note_dependency(str(path))
        source[0] = path.read_text(encoding="utf-8")
    lines = [line if code else _turned(line, file, f"docs/{page}") for line, code in marked(source[0])]
    if document == "index":
        lines += _contents(lines)
    source[0] = "\n".join(lines) + "\n"


def marked(text: str) -> Iterator[tuple[str, bool]]:
    """The lines of a page, and whether each is part of a fenced block of code."""
    fence = ""
    for line in text.splitlines():
        found = re.match(r"\s*(```+|~~~+)", line)
        yield line, bool(fence or found)
        if found and not fence:
            fence = found[1]
        elif found and line.strip() == fence:
            fence = ""


def _turned(line: str, file: str, page: str) -> str:
    """A line of a repository's file with its links as they are on the page that shows it."""
    line = _PICTURE.sub(lambda picture: _picture(picture["text"], picture["target"], file, page), line)
    return _LINK.sub(lambda link: _link(link["text"], link["target"], file, page), line)


def _picture(text: str, target: str, file: str, page: str) -> str:
    wanted = os.path.normpath(PurePosixPath(file).parent / target)
    return f"![{text}]({target if _ELSEWHERE.match(target) else os.path.relpath(wanted, PurePosixPath(page).parent)})"


def _link(text: str, target: str, file: str, page: str) -> str:
    if _ELSEWHERE.match(target):
        return f"[{text}]({target})"
    name, mark, anchor = target.partition("#")
    wanted = os.path.normpath(PurePosixPath(file).parent / name)
    if (_ROOT / wanted).is_dir():
        readme = f"{wanted}/README.md"
        if readme in _PAGES or (wanted.startswith("docs/") and (_ROOT / readme).is_file()):
            wanted = readme
        elif wanted.startswith("docs/"):  # a folder of pages: the index has a section of its name
            wanted, mark, anchor = "docs/index.md", "#", PurePosixPath(wanted).name
    wanted = _PAGES.get(wanted, wanted)
    of_site = wanted.startswith("docs/") or ((_ROOT / wanted).is_file() and not wanted.endswith(".md"))
    if not of_site:  # source code and folders are not on the site
        return text if text.startswith("`") else f"{text} (`{wanted}`)"
    return f"[{text}]({os.path.relpath(wanted, PurePosixPath(page).parent)}{mark}{anchor})"


def _contents(lines: list[str]) -> Iterator[str]:
    """The table of contents: a part for each section of the index, with the pages that it links, each once."""
    parts: dict[str, list[str]] = {}
    seen: set[str] = set()
    caption = ""
    for line in lines:
        caption = line.removeprefix("## ") if line.startswith("## ") else caption
        for link in _LINK.finditer(line):
            page = link["target"].removesuffix(".md")
            if page != link["target"] and page not in seen and not _ELSEWHERE.match(page):
                seen.add(page)
                parts.setdefault(caption, []).append(_entry(link["target"]))
    for caption, pages in parts.items():
        yield from ("", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```")


def _entry(page: str) -> str:
    """A page in the table of contents; one that shows another file keeps the title that it has here."""
    name = page.removesuffix(".md")
    if page not in _SHOWN:
        return name
    title = (_ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return f"{title} <{name}>"
