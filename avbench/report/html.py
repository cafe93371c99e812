"""The frame of avbench's pages: one file of HTML that carries its style and script and asks nobody for anything."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files


def esc(text: object) -> str:
    """``text`` as HTML shows it letter by letter, in content and in quoted attributes."""
    return escape(str(text), quote=True)


def document(title: str, body: str, *, script: str = "", style: str = "", alone: bool = False) -> str:
    """A page of HTML5 in the common style: light and dark, system fonts, readable from 320 pixels up.

    A content security policy lets only this style and this script through, by their hashes, so nothing that stands in
    ``body`` can run: neither a ``<script>`` nor an ``onclick=``, and ``style=`` has no effect either.

    Args:
        title: plain text, escaped here.
        body: the content of ``<main>``, as HTML: whatever comes from outside went through :func:`esc`.
        script: a classic script, run when the page is built.
        style: rules after those of the common style.
        alone: whether the page shows nothing that lies beside it. Otherwise images, sound and video may.
    """
    css = common_style() + style
    policy = [
        "default-src 'none'",
        f"style-src '{_digest(css)}'",
        f"script-src '{_digest(script)}'" if script else "script-src 'none'",
        "img-src data:" if alone else "img-src 'self' file: data:; media-src 'self' file: data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(title)}</title>
<style>{css}</style>
</head>
<body>
<main>
{body}
</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


@cache
def common_style() -> str:
    """The rules that all pages share."""
    return (files("avbench.report") / "html.css").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """How a content security policy names a style or script."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
