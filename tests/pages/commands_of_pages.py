"""The commands that the pages show: taken from fenced blocks and tables, with what each says that it needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
READER = MarkdownIt("commonmark").enable("table")
#: What a command may need that a test has not. ``# needs data, a GPU`` after it, or on a line before it.
NEEDS = ("a GPU", "data", "a cluster", "a package index", "an account")
_ONE = "|".join(NEEDS)
_MARK = re.compile(rf"\bneeds ((?:{_ONE})(?:(?:, | and )(?:{_ONE}))*)(?![\w-])")
#: Languages of blocks that hold no commands. A block of any other kind does, line by line.
OTHER_LANGUAGES = ("python", "toml", "json", "text", "yaml")
PROGRAMS = ("avbench", "python", "python3", "pip", "uv", "pytest", "coverage", "twine")


@dataclass(frozen=True)
class Command:
    """One command as a reader would type it.

    Attributes:
        needs: what the page says beside it that it needs.
        shared: whether that stands for several commands, some of which may need less.
        inline: whether it stands in a sentence, where it may also be a mere mention.
    """

    page: str
    line: int
    text: str
    needs: frozenset[str] = frozenset()
    inline: bool = False
    shared: bool = False

    @property
    def words(self) -> list[str]:
        """Program and arguments, without assignments to environment variables before them."""
        words = shlex.split(self.text, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        return words

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages(root: Path = ROOT) -> list[str]:
    """The pages whose commands count: all but the changelog, which tells what was, and the generated API."""
    tops = ("docs", "leaderboard", "benchmarks", "plugins")
    found = [root / "README.md", root / "CONTRIBUTING.md", *(p for top in tops for p in (root / top).rglob("*.md"))]
    names = sorted(str(path.relative_to(root)) for path in found if ".pytest_cache" not in path.parts)
    return [name for name in names if name != "docs/plugins/api.md"]


def marked(text: str) -> frozenset[str]:
    """What a comment or a table's row says that its command needs."""
    return frozenset(need for found in _MARK.finditer(text) for need in re.split(", | and ", found[1]))


def commands(text: str, page: str = "page.md") -> Iterator[Command]:
    """All commands of a page, in their order."""
    tokens = READER.parse(text)
    titles: list[str] = []
    for i, token in enumerate(tokens):
        if token.type == "fence" and token.info.strip() not in OTHER_LANGUAGES:
            yield from _of_block(token, page)
        elif token.type == "thead_open":
            titles = [each.content for each in _cells(tokens[i:], "thead_close")]
        elif token.type == "tr_open" and titles:
            row = [each.content for each in _cells(tokens[i:], "tr_close")]
            if "command" in titles and row != titles:
                yield from _of_row(row, titles.index("command"), page, token)
        elif token.type == "table_close":
            titles = []
        elif token.type == "inline" and "command" not in titles:
            yield from _of_sentence(token, page)


def usages(text: str, page: str = "page.md") -> Iterator[Command]:
    """Lines of blocks of text that say how a command is written: ``avbench verify DIR [--write]``."""
    for token in READER.parse(text):
        if token.type == "fence" and token.info.strip() == "text":
            for number, line in enumerate(token.content.splitlines(), (token.map or [0])[0] + 2):
                if line.split(" ")[0] in PROGRAMS:
                    yield Command(page, number, line)


def _cells(tokens: Sequence[Token], until: str) -> Iterator[Token]:
    for token in tokens:
        if token.type == until:
            return
        if token.type == "inline":
            yield token


def _of_block(token: Token, page: str) -> Iterator[Command]:
    """A comment on a line of its own marks what follows up to an empty line; one after a command marks that alone."""
    first = (token.map or [0])[0] + 2
    ahead: frozenset[str] = frozenset()
    whole = ""
    for number, line in enumerate(token.content.splitlines(), first):
        if line.lstrip().startswith("#"):
            ahead |= marked(line)
        elif not line.strip():
            ahead = frozenset()
        elif line.endswith("\\"):
            whole += line[:-1]
        else:
            whole, said = "", whole + line
            command, _, comment = said.partition(" #")
            for part in command.split(" && "):
                yield Command(page, number, part.strip(), ahead | marked(comment), shared=bool(ahead))


def _of_row(row: Sequence[str], column: int, page: str, token: Token) -> Iterator[Command]:
    for text in re.findall(r"`([^`]+)`", row[column]):
        yield Command(page, (token.map or [0])[0] + 1, text, marked(" ".join(row)), shared=True)


def _of_sentence(token: Token, page: str) -> Iterator[Command]:
    for child in token.children or ():
        if child.type == "code_inline":
            first, _, rest = child.content.partition(" ")
            if rest and first in PROGRAMS:
                yield Command(page, (token.map or [0])[0] + 1, child.content, inline=True)
