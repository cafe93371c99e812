"""The pages: links lead somewhere, every verb has its part, and Sphinx builds them all without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from avbench.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
READER = MarkdownIt("commonmark").enable("table")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def pages_of(root: Path) -> list[Path]:
    """Every Markdown file of the repository, without what tools and runs leave in hidden and other folders."""
    tops = ("docs", "leaderboard", "plugins", "benchmarks", "avbench", ".github")
    found = [*root.glob("*.md"), *(path for top in tops for path in (root / top).rglob("*.md"))]
    return sorted(path for path in found if ".pytest_cache" not in path.parts)


def tokens_of(path: Path) -> list[Token]:
    return READER.parse(path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that the repository's page gives to headings: words in lower case, joined; repeated ones numbered."""
    tokens, seen, found = tokens_of(path), Counter[str](), set()
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            title = "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def targets(path: Path) -> Iterator[str]:
    for token in tokens_of(path):
        for child in token.children or ():
            target = child.attrGet("href" if child.type == "link_open" else "src")
            if target and not EXTERNAL.match(str(target)):
                yield unquote(str(target))


def broken(path: Path) -> list[str]:
    """The relative links of a page that lead nowhere: no such file or folder, or no such heading in it."""
    found = []
    for target in targets(path):
        name, _, anchor = target.partition("#")
        wanted = path.parent / name if name else path
        if not wanted.exists() or (anchor and (wanted.suffix != ".md" or anchor not in anchors(wanted))):
            found.append(target)
    return found


@pytest.mark.parametrize("page", pages_of(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_noticed_and_code_is_no_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A `b` c?\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    page.write_text(
        "# Here\n[1](other.md) [2](other.md#a-b-c) [3](other.md#twice-1) [4](#here) [5](https://example.org/x)\n\n"
        "[6](gone.md) [7](other.md#twice-2) [8](#there) ![9](gone.png)\n\n```\n[10](code.md)\n```\n`[11](code.md)`\n",
        encoding="utf-8",
    )
    assert broken(page) == ["gone.md", "other.md#twice-2", "#there", "gone.png"]


def malformed(path: Path) -> list[str]:
    """Links to other sites that are none: not https, no host, or something that no address holds."""
    found = []
    for token in tokens_of(path):
        for child in token.children or ():
            target = str(child.attrGet("href" if child.type == "link_open" else "src") or "")
            if EXTERNAL.match(target) and not target.startswith("mailto:"):
                parts = urlsplit(target)
                host = re.fullmatch(r"(?:[a-z0-9-]+\.)+[a-z]{2,}", parts.hostname or "")
                if parts.scheme != "https" or not host or re.search(r"[\s<>\"`\\]|…", unquote(target)):
                    found.append(target)
    return found


@pytest.mark.parametrize("page", pages_of(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_another_site_is_well_formed(page: Path) -> None:
    assert malformed(page) == []


def test_malformed_links_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[1](https://example.org/a?b=c#d) [2](http://example.org) [3](https://localhost/x) [4](https:example.org)\n"
        "<https://example.org/y> [5](page.md) [6](https://example.org/…)\n",
        encoding="utf-8",
    )
    assert [link.partition("%")[0] for link in malformed(page)] == [
        "http://example.org",
        "https://localhost/x",
        "https:example.org",
        "https://example.org/",
    ]


def commands() -> dict[str, set[str]]:
    """What may follow ``avbench``, with the options of each, from the program itself."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        for path, leaf in {f"{name} {sub}": c for sub, c in inner.items()}.items() if inner else [(name, command)]:
            found[path] = {spelled for p in leaf.params for spelled in (*p.opts, *p.secondary_opts)}
    return found


def test_the_page_of_verbs_has_the_verbs_of_help_in_their_order() -> None:
    text = (DOCS / "verbs.md").read_text(encoding="utf-8")
    assert re.findall(r"^## `avbench ([a-z ]+)`$", text, re.MULTILINE) == list(commands())


@pytest.mark.parametrize("verb", list(commands()))
def test_a_verb_has_a_sentence_a_link_and_options_that_it_takes(verb: str) -> None:
    text = (DOCS / "verbs.md").read_text(encoding="utf-8")
    part = text.partition(f"## `avbench {verb}`\n")[2].partition("\n## ")[0]
    sentence = part.partition("|")[0]
    assert re.search(r"[A-Z].+\. More:", sentence, re.DOTALL) and re.search(r"\]\([\w/-]+\.md\)", sentence)
    options = re.findall(r"`(--[a-z-]+)", part)
    assert options and set(options) <= commands()[verb] | {"--help"}


def sphinx(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("sphinx", reason="the site is built with the extra `docs`")
    # What was read is kept beside the pages by default; a second build must not meet it.
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html", "-d", f"{out}-read"]
    return subprocess.run([*command, str(source), str(out)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    done = sphinx(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out


class Page(HTMLParser):
    """The links and ids of a built page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.ids.add(about.get("id") or "")
        if tag == "a" and about.get("href"):
            self.links.append(about["href"] or "")


def test_every_page_is_on_the_site_and_all_its_links_lead_somewhere(site: Path) -> None:
    built = {path: Page(path) for path in site.rglob("*.html") if "_downloads" not in path.parts}
    wanted = {site / page.relative_to(DOCS).with_suffix(".html") for page in pages_of(ROOT) if DOCS in page.parents}
    assert wanted <= set(built)
    lost = []
    for path, page in built.items():
        for link in (unquote(link) for link in page.links if not EXTERNAL.match(link)):
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.is_file() or (target in built and anchor not in built[target].ids):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


@pytest.mark.parametrize(
    ("page", "file"),
    [
        ("quickstart", "README.md"),
        ("changelog", "CHANGELOG.md"),
        ("contributing", "CONTRIBUTING.md"),
        ("leaderboard", "leaderboard/README.md"),
        ("reported", "leaderboard/reported/README.md"),
    ],
)
def test_files_outside_docs_have_their_text_on_the_site(site: Path, page: str, file: str) -> None:
    tokens = tokens_of(ROOT / file)
    heads = [inline.content for opening, inline in pairwise(tokens) if opening.type == "heading_open"]
    shown = unescape(re.sub(r"<[^>]+>", "", (site / f"{page}.html").read_text(encoding="utf-8")))
    assert "On the site its text stands here" not in shown
    assert heads and all(head.replace("`", "") in shown for head in heads)
    # On the repository page the same place leads there.
    assert f"../{file}" in list(targets(DOCS / f"{page}.md"))


def test_the_index_leads_to_all_that_a_reader_looks_for(site: Path) -> None:
    linked = set(Page(site / "index.html").links)
    wanted = (
        "quickstart",
        "concepts",
        "verbs",
        "methods",
        *(f"datasets/{name}" for name in ("avdigits", "arrays", "folder", "ave", "music21", "vggsound", "vggs10k")),
        "methods/gradient-matching",
        "methods/mtt",
        "protocols",
        "plugins/tutorial",
        "executors",
        "security",
        "scaling",
        "plugins/README",
        "plugins/api",
    )
    assert {f"{name}.html" for name in (*wanted, "results", "leaderboard", "changelog", "contributing")} <= linked


@pytest.mark.parametrize(
    ("page", "text", "complaint"),
    [
        ("index.md", "\n[gone](gone.md)\n", "gone"),
        ("index.md", "\n[heading](other.md#gone)\n", "gone"),
        ("lonely.md", "# Nobody links this\n", "lonely.md"),
    ],
)
def test_the_site_is_refused_where_a_link_is_broken_or_a_page_is_in_no_index(
    page: str, text: str, complaint: str, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(DOCS / "conf.py", docs)
    shutil.copytree(DOCS / "_static", docs / "_static")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (docs / "index.md").write_text("# Index\n\n## Part\n\n- [other](other.md)\n", encoding="utf-8")
    (docs / "other.md").write_text("# Other\n", encoding="utf-8")
    with (docs / page).open("a", encoding="utf-8") as file:
        file.write(text)
    done = sphinx(docs, tmp_path / "html")
    assert done.returncode != 0 and complaint in done.stderr
    if page == "lonely.md":  # and it is that alone which is refused
        (docs / page).unlink()
        assert sphinx(docs, tmp_path / "html").returncode == 0


@pytest.mark.slow
def test_a_release_builds_and_its_description_can_be_shown(tmp_path: Path) -> None:
    pytest.importorskip("twine", reason="twine checks a release")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    made = sorted(tmp_path.iterdir())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert [path.name for path in made] == [f"avbench-{version}-py3-none-any.whl", f"avbench-{version}.tar.gz"]
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, made)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASSED") == 2
