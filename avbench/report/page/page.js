"use strict";
(() => {
  const form = document.getElementById("choices");
  if (!form) return;
  const words = document.getElementById("words");
  const status = document.getElementById("status");
  const selects = [...form.querySelectorAll("select")];
  const ofRows = new Set(["ipc", "modality"]);
  const all = (root, selector) => [...root.querySelectorAll(selector)];

  // Sorting: a button in every head that has something to sort by; the third press gives the first order back.
  const turns = { none: "first", first: "second", second: "none" };
  const value = (row, column, numeric) => {
    const text = row.cells[column].dataset.value;
    return text === undefined ? null : numeric ? Number(text) : text;
  };

  function sort(table, column, turn) {
    const head = table.tHead.rows[0].cells[column];
    const numeric = head.classList.contains("number");
    // Numbers show the greatest first, texts and ranks the least.
    const descending = (numeric && !/^(rank|ipc)$/.test(head.dataset.title)) === (turn === "first");
    const sign = descending ? -1 : 1;
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, column, numeric), Number(row.dataset.row), row]);
    rows.sort(([a, i], [b, j]) => {
      if (turn === "none") return i - j;
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      const order = numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
      return sign * order || i - j;
    });
    table.tBodies[0].append(...rows.map(([, , row]) => row));
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      delete other.dataset.turn;
    }
    table.classList.toggle("sorted", turn !== "none");
    if (turn === "none") return `${head.dataset.title}: first order`;
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    head.dataset.turn = turn;
    return `sorted by ${head.dataset.title}, ${descending ? "descending" : "ascending"}`;
  }

  for (const table of all(document, "table.rows")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.dataset.title = head.textContent;
      if (head.classList.contains("plain")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const done = sort(table, column, turns[head.dataset.turn ?? "none"]);
        status.value = `${done}; ${counts}`;
      });
    });
  }

  // Choosing: boards by their facts, rows by theirs and by the words that they and their board contain.
  let counts = "";
  const boards = all(document, "section.board").map((section) => {
    const points = new Map();
    for (const point of all(section, ".point")) {
      points.set(point.dataset.row, [...(points.get(point.dataset.row) ?? []), point]);
    }
    return {
      section,
      title: section.querySelector("h2").textContent + " " + section.querySelector("h2 + p").textContent,
      rows: all(section, "table.rows tbody tr").map((row) => ({
        row,
        text: row.querySelector("th").textContent.toLowerCase(),
        points: points.get(row.dataset.row) ?? [],
      })),
      lines: all(section, "polyline").map((line) => [line, line.dataset.rows.split(",")]),
      keys: all(section, ".legend li"),
    };
  });
  const maps = all(document, ".map");
  const across = document.getElementById("across");

  function choose() {
    const sought = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = selects.filter((select) => select.value).map((select) => [select.dataset.choice, select.value]);
    const fits = (element, ofBoard) =>
      chosen.every(([name, text]) => ofRows.has(name) === ofBoard || element.dataset[name] === text);
    let shownBoards = 0;
    let shownRows = 0;
    for (const { section, title, rows, lines, keys } of boards) {
      const heading = title.toLowerCase();
      const rest = sought.filter((word) => !heading.includes(word));
      const of = fits(section, true);
      const shown = new Set();
      const series = new Set();
      for (const { row, text, points } of rows) {
        const show = of && fits(row, false) && rest.every((word) => text.includes(word));
        row.hidden = !show;
        for (const point of points) point.classList.toggle("off", !show);
        if (show) {
          shown.add(row.dataset.row);
          series.add(row.dataset.series);
        }
      }
      // A line through points that are not shown would say something of them.
      for (const [line, ids] of lines) line.classList.toggle("off", !ids.every((id) => shown.has(id)));
      for (const key of keys) key.hidden = !series.has(key.dataset.series);
      section.hidden = shown.size === 0;
      shownBoards += shown.size > 0;
      shownRows += shown.size;
    }
    for (const map of maps) {
      const facts = chosen.filter(([name]) => map.dataset[name] !== undefined);
      const caption = map.querySelector("caption").textContent.toLowerCase();
      const rest = sought.filter((word) => !caption.includes(word));
      let left = 0;
      for (const row of map.querySelector("tbody").rows) {
        row.hidden = !rest.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
        left += !row.hidden;
      }
      map.hidden = !left || !facts.every(([name, text]) => map.dataset[name] === text);
    }
    if (across) across.hidden = maps.every((map) => map.hidden);
    counts = shownRows
      ? `${shownRows} of ${form.dataset.rows} rows on ${shownBoards} of ${boards.length} boards`
      : "no row fits: reset the choices";
    status.value = counts;
  }

  form.dataset.rows = boards.reduce((sum, { rows }) => sum + rows.length, 0);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", choose);
  form.addEventListener("reset", () => setTimeout(choose));
  form.hidden = false;
  choose();
})();
