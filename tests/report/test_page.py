"""The leaderboard as a page, in a real browser: sorting, choosing, plots, text as text, narrow and dark windows."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avbench.report.board import Board, build_boards
from avbench.report.html import document, esc
from avbench.report.page import render_page
from avbench.report.page.scale import Scale, log_ticks, ticks
from avbench.results import RunDirectory

HOSTILE = "<script>window.broken=1</script>"
IMAGE = '"><img src=x onerror="window.broken=1">'
NOTE = "</script><!-- <b>3 records</b> & \u2028 more"
SCORES = {"random": 0.40, "herding": 0.55, "dm": 0.60, "avdd": 0.75, HOSTILE: 0.50, IMAGE: 0.45}
IPCS = (1, 2, 10)


def reference(name: str, label: str = "") -> dict[str, Any]:
    common = {"distribution": "avbench", "distribution_version": "1", "origins": {}}
    return {"name": name, "label": label or name, "version": 1, "options": {}, **common}


class Records:
    """Writes what workers write: cells and how several networks judge them."""

    def __init__(self, root: Path) -> None:
        self.directory = RunDirectory(root)
        self.cells: dict[str, dict[str, Any]] = {}
        self.rng = np.random.default_rng(0)

    def cell(self, method: str, ipc: int, seed: int, *, modality: str = "av", dataset: str = "ave") -> str:
        key = f"{len(self.cells):08x}"
        cell = {
            "status": "done",
            "dataset": {"name": dataset, "fingerprint": f"{dataset}-fingerprint", "plugin": dataset},
            "seed": seed,
            "modality": modality,
            "precision": "float32",
            "preset": "paper",
            "method": {**reference(method), "equals": "cm" if method in ("dm", "avdd[lambda=0]") else ""},
            "role": {"random": "baseline", "whole": "upper bound"}.get(method, "method"),
            "ipc": ipc,
            "architecture": reference("convnet"),
            "planned_seeds": 2,
            "duration_s": 4.0 + 100 * ipc,
            "result": {"content_hash": key, "ratio": ipc / 100 or 1.0, "storage_bytes": 9_000 * (ipc or 100)},
        }
        self.cells[key] = cell
        self.directory.write_record("distil", key, cell)
        return key

    def judge(self, key: str, mean: float, *, architecture: str = "convnet", fusion: str = "ensemble") -> None:
        cell = self.cells[key]
        networks = [
            {"index": index, "accuracy": {part: mean - less + float(self.rng.normal(0, 0.01))
                                          for part, less in (("a", 0.2), ("v", 0.1), ("av", 0.0))}}
            for index in range(3)
        ]  # fmt: skip
        shared = {name: cell[name] for name in ("dataset", "seed", "modality", "precision")}
        evaluation = {
            "status": "done",
            **shared,
            "set_hash": key,
            "distil_key": key,
            "planned_networks": 3,
            "protocol": reference("recognition-code"),
            "evaluated_architecture": reference(architecture),
            "fusion": reference(fusion),
            "result": {"primary": "accuracy", "metrics": [{"name": "accuracy", "share": True}], "networks": networks},
        }
        self.directory.write_record("evaluate", f"{key}-{architecture}-{fusion}", evaluation)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, two architectures, a fusion, a modality, an incomplete row, an equal one, hostile names."""
    records = Records(tmp_path_factory.mktemp("runs"))
    for seed in (0, 1):
        for method, base in SCORES.items():
            for place, ipc in enumerate(IPCS):
                key = records.cell(method, ipc, seed)
                records.judge(key, base + 0.05 * place)
                if ipc == 10 and method in ("random", "dm", "avdd"):
                    records.judge(key, base, architecture="lenet")
        records.judge(records.cell("whole", 0, seed), 0.95)
        records.judge(records.cell("dm", 1, seed, modality="a"), 0.5)
        records.judge(records.cell("avdd[lambda=0]", 1, seed), 0.61)
        for method in ("random", "dm"):
            records.judge(records.cell(method, 1, seed, dataset="music"), SCORES[method], fusion="concat")
    records.judge(records.cell("mtt", 1, 0), 0.5)
    return records.directory.root


@pytest.fixture(scope="module")
def boards(directory: Path) -> list[Board]:
    return build_boards([RunDirectory(directory)])


@pytest.fixture(scope="module")
def page(boards: list[Board]) -> str:
    return render_page(boards, notes=[NOTE], link=Path.as_uri)


# --- without a browser ----------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a page holds for one who runs no script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += data


def test_the_tables_are_there_without_script(page: str, boards: list[Board]) -> None:
    rows = Reader(page).rows
    for board in boards:
        for row in board.rows.to_dict("records"):
            number = f"{100 * row['av_mean']:.1f} ± {100 * row['av_std']:.1f}"
            assert any(str(row["method"]) in text and number in text for text in rows)


def test_every_record_of_every_row_is_linked(page: str, boards: list[Board], directory: Path) -> None:
    links = {attributes["href"] for tag, attributes in Reader(page).tags if tag == "a"}
    assert links == {path.as_uri() for path in directory.glob("*/*/record.json")}
    assert not any(tag == "a" for tag, _ in Reader(render_page(boards)).tags)


def test_nothing_on_the_page_comes_from_elsewhere(page: str) -> None:
    for tag, attributes in Reader(page).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "srcset", "style"}.intersection(attributes), (tag, attributes)
        assert tag != "use" or str(attributes["href"]).startswith("#")
    assert not re.search(r"url\(|@import", page)


def test_the_same_boards_give_the_same_page(page: str, boards: list[Board]) -> None:
    assert render_page(boards, notes=[NOTE], link=Path.as_uri) == page


def test_no_board_is_said_so() -> None:
    text = render_page([], notes=["1 record is damaged"])
    assert "no board" in text and "1 record is damaged" in text and "<table" not in text


def test_a_row_that_was_never_judged_has_a_line_and_no_point(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.judge(records.cell("dm", 1, 0), 0.6)
    key = records.cell("dc", 1, 0)
    error = {"phase": "step 3", "reason": "not finite", "type": "TaskError"}
    failed = {name: value for name, value in records.cells[key].items() if name != "result"}
    records.directory.write_record("distil", key, failed | {"status": "failed", "error": error})
    (board,) = build_boards([records.directory])
    assert list(board.rows["method"]) == ["dc", "dm"]
    reader = Reader(render_page([board]))
    assert len([row for row in reader.rows if "incomplete" in row]) == 2
    points = [attributes for tag, attributes in reader.tags if tag == "g" and attributes.get("class") == "point"]
    assert [point["data-row"] for point in points] == ["1"] * 4


def test_ticks_are_round_and_enclose() -> None:
    assert ticks(0.62, 0.97) == pytest.approx([0.6, 0.7, 0.8, 0.9, 1.0])
    assert ticks(83, 83)[0] <= 83 < ticks(83, 83)[-1]
    assert ticks(-3, 41) == pytest.approx([-20, 0, 20, 40, 60])
    assert log_ticks(81_930, 9_012_300) == pytest.approx([1e4, 1e5, 1e6, 1e7])
    assert log_ticks(120_000, 2_253_000) == pytest.approx([1e5, 2e5, 5e5, 1e6, 2e6, 5e6])
    assert Scale(1, 100, 0, 200, logarithmic=True).at(10) == pytest.approx(100)


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "the browser, Debian's chromium, is not here"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def opened(browser: Any, page: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str]]:
    """The page, opened once, and whatever it complains of or asks for."""
    path = tmp_path_factory.mktemp("page") / "board.html"
    path.write_text(page, encoding="utf-8")
    window = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    heard: list[str] = []
    window.on("console", lambda message: heard.append(message.text))
    window.on("pageerror", lambda error: heard.append(str(error)))
    window.on("request", lambda request: heard.append(request.url))
    window.goto(path.as_uri())
    return window, heard


@pytest.fixture
def window(opened: tuple[Any, list[str]]) -> Any:
    """The page as it is when it opens."""
    window, heard = opened
    window.set_viewport_size({"width": 1280, "height": 900})
    window.emulate_media(color_scheme="light", media="screen")
    window.reload()
    heard.clear()
    return window


def shown(window: Any, column: str, board: int = 1) -> list[str]:
    """The texts of a column in the rows that are visible."""
    return window.evaluate(
        """([board, title]) => {
            const table = document.querySelector(`#board-${board} table.rows`);
            const titles = [...table.tHead.rows[0].cells].map((head) => head.textContent.replaceAll("\u00a0", " "));
            const at = titles.indexOf(title);
            const rows = [...table.tBodies[0].rows].filter((row) => !row.closest("[hidden]"));
            return rows.map((row) => row.cells[at].textContent.trim());
        }""",
        [board, column],
    )


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("−", "-").split(" ")[0]) for text in texts if text != "–"]


def head(window: Any, column: str) -> Any:
    return window.locator("#board-1 thead th", has=window.get_by_role("button", name=column, exact=True))


def texts_of(found: Any) -> list[str]:
    """What elements hold, also below the window, where the browser lays nothing out."""
    return [" ".join(text.split()) for text in found.all_text_contents()]


def status(window: Any) -> str:
    return str(window.locator("#status").inner_text()).replace("\N{NO-BREAK SPACE}", " ")


def test_it_complains_of_nothing_and_asks_for_nothing(opened: tuple[Any, list[str]]) -> None:
    window, heard = opened
    heard.clear()
    window.reload()
    assert heard == [window.url]
    window.get_by_label("Filter").fill("dm")
    head(window, "AV %").locator("button").click()
    assert heard == [window.url]


def test_a_press_sorts_and_the_third_gives_the_first_order_back(window: Any) -> None:
    first = shown(window, "method")
    button = head(window, "AV %").locator("button")
    button.click()
    scores = numbers(shown(window, "AV %"))
    assert scores == sorted(scores, reverse=True) and scores != sorted(scores)
    assert head(window, "AV %").get_attribute("aria-sort") == "descending"
    assert "sorted by AV %, descending" in status(window)
    button.click()
    assert numbers(shown(window, "AV %")) == sorted(scores)
    assert head(window, "AV %").get_attribute("aria-sort") == "ascending"
    button.click()
    assert shown(window, "method") == first
    assert head(window, "AV %").get_attribute("aria-sort") == "none"


def test_every_column_sorts_by_what_it_means(window: Any) -> None:
    """Sizes by bytes and times by seconds, IPC with the whole data last, what is missing last either way."""
    for column in ("bytes", "time", "ratio %"):
        head(window, column).locator("button").click()
        assert shown(window, column)[0] == {"bytes": "900.0 kB", "time": "16.7 min", "ratio %": "100.00"}.get(column)
    head(window, "ipc").locator("button").click()
    ipcs = shown(window, "ipc")
    assert ipcs == sorted(ipcs, key=lambda ipc: (ipc == "all", int(ipc) if ipc != "all" else 0))
    assert "10" in ipcs and "2" in ipcs
    for _ in range(2):
        head(window, "Δ reported").locator("button").click()
        texts = shown(window, "Δ reported")
        assert len(numbers(texts)) >= 4 and set(texts[len(numbers(texts)) :]) == {"–"}


def test_the_keyboard_sorts(window: Any) -> None:
    head(window, "method").locator("button").focus()
    window.keyboard.press("Enter")
    names = [name.lower() for name in shown(window, "method")]
    assert head(window, "method").get_attribute("aria-sort") == "ascending"
    # What is no letter comes before what is one.
    assert [name for name in names if name[0].isalpha()] == sorted(name for name in names if name[0].isalpha())
    window.keyboard.press("Tab")
    window.keyboard.press("Space")
    assert [each.get_attribute("aria-sort") for each in window.locator("#board-1 thead th").all()].count("none") > 5
    assert head(window, "method").get_attribute("aria-sort") == "none"


def test_words_filter_rows_points_and_lines(window: Any) -> None:
    window.get_by_label("Filter").fill("avdd")
    assert set(shown(window, "method")) == {"avdd", "avdd[lambda=0] ≡ dm"}
    assert "5 of" in status(window)
    lines = window.locator("#board-1 polyline").evaluate_all(
        "(all) => all.filter((one) => one.checkVisibility()).length"
    )
    assert lines == 4  # avdd alone has several IPCs: three parts and the bytes
    keys = texts_of(window.locator("#board-1 .legend li:not([hidden])"))
    assert keys == ["avdd", "avdd[lambda=0]"]
    window.get_by_label("Filter").fill("music dm")
    assert texts_of(window.locator("section.board:not([hidden]) h2")) == ["music music-fi"]
    window.get_by_label("Filter").fill("no such thing")
    assert "no row fits" in status(window)
    assert window.locator("section.board:not([hidden])").count() == 0


CHOICES = [
    ("Dataset", "music (music-fi)", lambda facts: facts["dataset"] == "music"),
    ("Architecture", "lenet", lambda facts: facts["architecture"] == "lenet"),
    ("Fusion", "concat", lambda facts: facts["fusion"] == "concat"),
    ("IPC", "10", lambda facts: facts["ipc"] == 10),
    ("Distilled", "audio", lambda facts: facts["modality"] == "a"),
]


@pytest.mark.parametrize(("label", "option", "fits"), CHOICES, ids=[label for label, *_ in CHOICES])
def test_a_choice_shows_the_rows_that_fit(window: Any, boards: list[Board], label: str, option: str, fits: Any) -> None:
    window.get_by_role("combobox", name=label, exact=True).select_option(label=option)
    for number, board in enumerate(boards, 1):
        rows = [row for row in board.rows.to_dict("records") if fits({**board.about, **row})]
        assert len(shown(window, "method", number)) == len(rows)
        figures = len(board.parts) + 1
        points = window.locator(f"#board-{number} .point:not(.off)").count()
        assert points == figures * len(rows)


def test_the_plots_have_a_point_with_an_error_bar_for_every_row(window: Any, boards: list[Board]) -> None:
    for number, board in enumerate(boards, 1):
        figures = window.locator(f"#board-{number} figure")
        assert figures.count() == len(board.parts) + 1
        for figure in figures.all():
            assert figure.locator(".point").count() == len(board.rows)
            assert figure.locator(".point .error").count() == len(board.rows)


def test_points_stand_where_their_numbers_are(window: Any, boards: list[Board]) -> None:
    """Higher scores stand higher and more bytes further right, in the pixels that the browser drew."""
    boxes = (
        window.locator("#board-1 figure")
        .last.locator(".point use")
        .evaluate_all(
            "(all) => all.map((one) => { const box = one.getBoundingClientRect();"
            " return [Number(one.parentNode.dataset.row), box.x + box.width / 2, box.y + box.height / 2]; })"
        )
    )
    rows = boards[0].rows
    assert len(boxes) == len(rows)
    score = rows["score"].to_numpy()[[row for row, *_ in boxes]]
    size = np.log(rows["bytes"].to_numpy(dtype=float)[[row for row, *_ in boxes]])
    assert np.corrcoef(score, [y for *_, y in boxes])[0, 1] < -0.995
    assert np.corrcoef(size, [x for _, x, _ in boxes])[0, 1] > 0.995


def test_the_heat_map_compares_architectures_at_an_ipc(window: Any, boards: list[Board]) -> None:
    maps = window.locator("table.heat")
    assert [text.split(" · ")[-1] for text in texts_of(maps.locator("caption"))] == ["IPC 10"]
    assert texts_of(maps.locator("thead th")) == ["method", "convnet", "lenet"]
    lines = {line.locator("th").inner_text(): texts_of(line.locator("td")) for line in maps.locator("tbody tr").all()}
    for column, board in enumerate(board for board in boards if board.about["dataset"] == "ave"):
        for row in board.rows[board.rows["ipc"] == 10].to_dict("records"):
            assert lines[row["method"]][column] == f"{100 * row['av_mean']:.1f} ± {100 * row['av_std']:.1f}"
    assert lines["herding"][1] == "–"
    window.get_by_role("combobox", name="IPC", exact=True).select_option("1")
    assert not maps.is_visible()


def test_text_from_records_is_shown_as_text(window: Any) -> None:
    assert {HOSTILE, IMAGE} <= set(shown(window, "method"))
    assert window.locator(".notes li").inner_text().split() == NOTE.split()
    assert window.evaluate("window.broken") is None
    assert window.locator("img").count() == 0
    assert window.locator("script").count() == 1


def test_marks_tell_best_second_equal_and_incomplete(window: Any) -> None:
    texts = shown(window, "method")
    assert "avdd[lambda=0] ≡ dm" in texts and "mtt incomplete" in texts
    assert set(texts_of(window.locator("#board-1 th[scope=row] b"))) == {"avdd"}
    assert set(texts_of(window.locator("#board-1 th[scope=row] u"))) <= {"dm", "avdd[lambda=0]", "herding"}
    row = window.locator("#board-1 tbody tr", has_text="mtt")
    assert row.locator("td").first.inner_text() == "–"
    assert "1 of 2 × 3 of 3" in row.inner_text()


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_a_narrow_window_does_not_scroll_sideways(window: Any, width: int) -> None:
    window.set_viewport_size({"width": width, "height": 740})
    window.locator("details.reading summary").click()
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    box = window.locator("#board-1 .box")
    if width < 400:
        assert box.evaluate("(box) => box.scrollWidth > box.clientWidth")
        box.evaluate("(box) => box.scrollLeft = 400")
        # The method stays, and leaves room for the numbers.
        methods = [one.bounding_box() for one in box.locator("tbody th").all()]
        assert all(place["x"] >= 0 and place["x"] + place["width"] < 0.6 * width for place in methods)
        assert box.locator("tbody th").evaluate_all("(all) => all.every((one) => one.scrollWidth <= one.clientWidth)")


#: All texts that are shown, each with its colour and that of the ground on which it stands; marks of plots as "mark".
COLOURS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const mark = element.matches(".point use, polyline");
    if (!(words || mark) || element.closest("title, script")) continue;
    const drawn = element.closest("svg") && (element.matches("polyline") ? style.stroke : style.fill);
    const pair = [mark ? "mark" : "text", rgb(drawn || style.color), ground(element)];
    found.set(JSON.stringify(pair), pair);
  }
  return [...found.values()];
}"""


def luminance(colour: list[float]) -> float:
    shares = [value / 255 for value in colour[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(window: Any, scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for what is drawn."""
    window.emulate_media(color_scheme=scheme)
    pairs = window.evaluate(COLOURS)
    grounds = {tuple(ground[:3]) for _, _, ground in pairs}
    assert (min(map(luminance, map(list, grounds))) < 0.05) == (scheme == "dark")
    assert {kind for kind, *_ in pairs} == {"text", "mark"} and len(pairs) > 12
    for kind, colour, ground in pairs:
        dark, light = sorted((luminance(colour), luminance(ground)))
        ratio = (light + 0.05) / (dark + 0.05)
        assert ratio >= (4.5 if kind == "text" else 3.0), (scheme, kind, colour, ground, ratio)


def test_the_keyboard_reaches_all_controls_in_order_and_shows_where_it_is(window: Any) -> None:
    seen = []
    for _ in range(12):
        window.keyboard.press("Tab")
        seen.append(
            window.evaluate(
                """() => {
                    const at = document.activeElement;
                    const style = getComputedStyle(at);
                    const label = at.labels?.[0]?.textContent ?? at.getAttribute("aria-label");
                    return [label ?? at.textContent, style.outlineStyle, parseFloat(style.outlineWidth)];
                }"""
            )
        )
    names = [name for name, *_ in seen]
    controls = ["How to read this", "Filter", "Dataset", "Architecture", "Fusion", "IPC", "Distilled", "Reset"]
    assert names[: len(controls)] == controls
    assert names[8].startswith("Table: ave") and names[9:] == ["rank", "method", "distilled"]
    assert all(style != "none" and width >= 2 for _, style, width in seen)


def test_paper_gets_black_on_white_without_controls(window: Any) -> None:
    window.emulate_media(media="print", color_scheme="dark")
    assert not window.locator("#choices").is_visible()
    assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert window.locator("#board-2 table").is_visible()


def test_a_page_runs_no_script_but_its_own(browser: Any, tmp_path: Path) -> None:
    """What :func:`avbench.report.html.document` promises of any body, though it was not escaped."""
    body = "<script>window.broken=1</script><p onclick='window.broken=1' style='color:red'>text</p>"
    path = tmp_path / "index.html"
    path.write_text(
        document("<b>", body, script="window.own = 1;", style="p { color: rgb(1, 2, 3) }"), encoding="utf-8"
    )
    window = browser.new_page()
    window.goto(path.as_uri())
    window.click("p")
    assert window.evaluate("[window.own, window.broken]") == [1, None]
    assert window.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(1, 2, 3)"
    assert window.title() == "<b>"
    window.close()


def test_what_lies_beside_a_page_is_shown_unless_it_is_alone(browser: Any, tmp_path: Path) -> None:
    picture = "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='7'/>"
    (tmp_path / "a.svg").write_text(picture, encoding="utf-8")
    widths = []
    for alone in (False, True):
        path = tmp_path / f"{alone}.html"
        path.write_text(document("t", f"<img src='a.svg' alt='{esc('<')}'>", alone=alone), encoding="utf-8")
        window = browser.new_page()
        window.goto(path.as_uri())
        widths.append(window.evaluate("document.images[0].naturalWidth"))
        window.close()
    assert widths == [7, 0]
