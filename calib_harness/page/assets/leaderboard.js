// The leaderboard: models × metrics, or base and aligned models side by side.

const board = {
  mode: "models",
  task: 0,
  method: 0,
  family: "",
  stage: "",
  text: "",
  metrics: new Set(doc.metrics.map((metric) => metric.name)),
  table: null,
};

function showLeaderboard() {
  const best = mostCommonCombination();
  board.task = best.task;
  board.method = best.method;
  if (doc.metrics.length > 8) board.metrics = new Set(doc.metrics.slice(0, 8).map((m) => m.name));
  drawBoardControls();
  drawBoard();
}

/** The task and method with the most models, so that the first table is not half empty. */
function mostCommonCombination() {
  const count = new Map();
  for (const { task, method } of entries) {
    const key = `${task} ${method}`;
    count.set(key, (count.get(key) ?? 0) + 1);
  }
  const [key] = [...count].sort((a, b) => b[1] - a[1])[0];
  const [task, method] = key.split(" ").map(Number);
  return { task, method };
}

function drawBoardControls() {
  const set = (key, convert = String) => (value) => {
    board[key] = convert(value);
    drawBoard();
  };
  const families = distinct(doc.models.map((model) => model.family));
  const stages = distinct(doc.models.map((model) => model.stage));
  const all = (list, word) => [["", word], ...list.map((text) => [text, text])];
  replace(
    document.getElementById("leaderboard-controls"),
    doc.pairs.length > 0 &&
      choose(
        "Rows",
        [
          ["models", "Models"],
          ["pairs", "Base → aligned"],
        ],
        board.mode,
        set("mode"),
      ),
    choose("Task", optionsFor(doc.tasks, "All tasks"), board.task, set("task", Number)),
    choose("Method", optionsFor(doc.methods, "All methods"), board.method, set("method", Number)),
    families.length > 0 && choose("Family", all(families, "All families"), "", set("family")),
    stages.length > 0 && choose("Stage", all(stages, "All stages"), "", set("stage")),
    search("Search models", "", set("text", (text) => text.trim().toLowerCase())),
    chooseMany(
      "Metrics",
      doc.metrics.map((metric) => [metric.name, metric.name]),
      board.metrics,
      drawBoard,
    ),
  );
}

function matches(model) {
  const { family, stage, label } = doc.models[model];
  return (
    (!board.family || family === board.family) &&
    (!board.stage || stage === board.stage) &&
    (!board.text || `${label} ${family} ${stage}`.toLowerCase().includes(board.text))
  );
}

function chosenEntries() {
  return entries.filter(
    (entry) =>
      (board.task < 0 || entry.task === board.task) &&
      (board.method < 0 || entry.method === board.method) &&
      matches(entry.model),
  );
}

function drawBoard() {
  const metrics = doc.metrics.filter((metric) => board.metrics.has(metric.name));
  const target = document.getElementById("leaderboard-table");
  const note = document.getElementById("leaderboard-note");
  board.table?.destroy();
  board.table = null;
  const [rows, columns, text] =
    board.mode === "pairs" ? pairBoard(metrics) : modelBoard(metrics, chosenEntries());
  note.textContent = text;
  if (rows.length === 0) {
    replace(target, h("p", { class: "empty" }, "Nothing matches: choose another task or method, or clear the search."));
    return;
  }
  target.replaceChildren();
  board.table = makeTable(target, "Leaderboard", rows, columns);
}

function makeTable(target, label, rows, columns) {
  const element = h("div", {});
  target.append(element);
  const table = new Tabulator(element, {
    data: rows,
    columns,
    layout: "fitDataFill",
    maxHeight: rows.length > 30 ? "75vh" : false,
    columnDefaults: { resizable: false, headerHozAlign: "left" },
    placeholder: "Nothing to show",
  });
  table.on("tableBuilt", () => {
    mendRoles(element, label);
    table.built = true;
  });
  table.on("rowClick", (event, row) => {
    const { open } = row.getData();
    if (open !== undefined && !event.target.closest("a, button")) go(`#/model/${open}`);
  });
  return table;
}

/** Tabulator's roles do not all exist, and its grid owns the rows past the element between. */
function mendRoles(element, label) {
  element.setAttribute("aria-label", label);
  element.removeAttribute("aria-owns");
  element.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
  element.querySelector(".tabulator-table").removeAttribute("role");
  for (const group of element.querySelectorAll(".tabulator-col-group")) {
    group.setAttribute("role", "presentation");
    group.removeAttribute("aria-sort");
    group.removeAttribute("aria-title");
  }
}

/** A column heading that sorts, by mouse or keyboard: Tabulator's own needs a mouse. */
function heading(text, { about = null, spoken = null } = {}) {
  return () => h("button", { type: "button", class: "sort", title: about, "aria-label": spoken }, text);
}

function column(title, field, extra = {}) {
  return { title, field, titleFormatter: heading(title), ...extra };
}

const isNarrow = () => window.innerWidth <= 700;

function modelColumn() {
  return column("Model", "name", {
    frozen: true,
    minWidth: isNarrow() ? 110 : 150,
    maxWidth: isNarrow() ? 130 : 340,
    formatter: (cell) =>
      h("a", { class: "cut", href: `#/model/${cell.getData().open}` }, name(cell.getValue())),
  });
}

const byNumber = (a, b) => (Number.isNaN(a) ? -Infinity : a) - (Number.isNaN(b) ? -Infinity : b);

/** Table of entries: one row each, a cell with error and interval for every metric. */
function modelBoard(metrics, chosen) {
  const best = distinguishable(chosen, metrics);
  const rows = chosen.map((entry) => {
    const model = doc.models[entry.model];
    const row = {
      entry,
      open: entry.model,
      name: modelNames[entry.model],
      family: model.family,
      stage: model.stage,
      task: doc.tasks[entry.task],
      method: doc.methods[entry.method],
      setting: settingName(entry.setting),
      n: entry.n,
      unusable: entry.unusable,
    };
    for (const metric of metrics) row[metric.name] = measured(entry, metric.name).value;
    return row;
  });
  const several = (key) => new Set(rows.map((row) => row[key])).size > 1;
  const text = { formatter: (cell) => name(cell.getValue(), { class: "cut" }), maxWidth: 220 };
  const place = [
    several("family") && column("Family", "family", text),
    several("stage") && column("Stage", "stage", text),
  ];
  // On a phone the numbers come first.
  const [before, after] = isNarrow() ? [[], place] : [place, []];
  const columns = [
    modelColumn(),
    ...before,
    several("task") && column("Task", "task", text),
    several("method") && column("Method", "method", text),
    several("setting") && column("Settings", "setting", text),
    column("n", "n", { hozAlign: "right", sorter: "number" }),
    rows.some((row) => row.unusable) &&
      column("unusable", "unusable", { hozAlign: "right", sorter: "number" }),
    ...metrics.map((metric) => metricColumn(metric, chosen, best)),
    ...after,
  ].filter(Boolean);
  const { n_bins: bins, binning } = doc.options;
  const note =
    `${plural(rows.length, "row")}. M = ${bins} bins (${binning.replace("_", " ")}); ± is a standard error, ` +
    "the bar a 95 % interval. Bold: the best, where its interval overlaps no other's.";
  return [rows, columns, note];
}

function arrow(metric) {
  return { lower: " ↓", higher: " ↑", zero: " → 0" }[metric.direction] ?? "";
}

function metricColumn(metric, chosen, best) {
  const found = chosen.map((entry) => measured(entry, metric.name));
  const low = Math.min(...found.map((m) => m.low).filter(Number.isFinite));
  const high = Math.max(...found.map((m) => m.high).filter(Number.isFinite));
  return column(metric.name, metric.name, {
    titleFormatter: heading(metric.name + arrow(metric), { about: metric.formula }),
    sorter: byNumber,
    headerSortStartingDir: metric.direction === "higher" ? "desc" : "asc",
    hozAlign: "right",
    formatter: (cell) => {
      const { entry } = cell.getData();
      const m = measured(entry, metric.name);
      if (Number.isNaN(m.value)) return h("span", { class: "muted" }, "–");
      return h(
        "span",
        { class: "number", title: `95 % interval ${interval(m.low, m.high)}` },
        h(best.has(`${entry.i} ${metric.name}`) ? "strong" : "span", {}, fixed(m.value)),
        Number.isNaN(m.stderr) ? null : h("small", {}, ` ±${fixed(m.stderr)}`),
        errorBar(m, low, high),
      );
    },
  });
}

/** A small interval with its value, on the scale of the whole column. */
function errorBar({ value, low, high }, least, most) {
  if (!Number.isFinite(low) || !(most > least)) return null;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const at = (x) => 3 + ((x - least) / (most - least)) * 74;
  const add = (tag, attributes) => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, v] of Object.entries(attributes)) part.setAttribute(key, v);
    svg.append(part);
  };
  for (const [key, v] of Object.entries({ class: "bar", viewBox: "0 0 80 8", "aria-hidden": "true" })) {
    svg.setAttribute(key, v);
  }
  add("line", { x1: at(low), x2: at(high), y1: 4, y2: 4 });
  add("circle", { cx: at(value), cy: 4, r: 2.4 });
  return svg;
}

/** "entry metric" of every best value whose interval overlaps no other's, per task × method. */
function distinguishable(chosen, metrics) {
  const best = new Set();
  const groups = new Map();
  for (const entry of chosen) {
    const key = `${entry.task} ${entry.method}`;
    groups.set(key, [...(groups.get(key) ?? []), entry]);
  }
  for (const metric of metrics) {
    const cost = { lower: (v) => v, higher: (v) => -v, zero: Math.abs }[metric.direction];
    if (!cost) continue;
    for (const group of groups.values()) {
      const found = group
        .map((entry) => ({ entry, ...measured(entry, metric.name) }))
        .filter((m) => Number.isFinite(m.value))
        .sort((a, b) => cost(a.value) - cost(b.value));
      const [first, ...others] = found;
      const apart = (other) => first.low > other.high || first.high < other.low;
      if (others.length > 0 && others.every(apart)) best.add(`${first.entry.i} ${metric.name}`);
    }
  }
  return best;
}

/** Base and aligned side by side, with the change between them. */
function pairBoard(metrics) {
  const rows = new Map();
  for (const change of changes) {
    const { family, base, aligned } = doc.pairs[change.pair];
    if (board.task >= 0 && change.task !== board.task) continue;
    if (board.method >= 0 && change.method !== board.method) continue;
    if (!matches(base) && !matches(aligned)) continue;
    const key = `${change.pair} ${change.task} ${change.method} ${change.setting}`;
    const row = rows.get(key) ?? {
      open: aligned,
      name: pairName(change.pair),
      family,
      task: doc.tasks[change.task],
      method: doc.methods[change.method],
      setting: change.setting,
      n: change.n,
      found: {},
    };
    row.found[change.metric] = change;
    row[`${change.metric} base`] = change.base;
    row[`${change.metric} aligned`] = change.aligned;
    row[`${change.metric} change`] = change.change;
    rows.set(key, row);
  }
  const list = [...rows.values()];
  const several = (key) => new Set(list.map((row) => row[key])).size > 1;
  const text = { formatter: (cell) => name(cell.getValue(), { class: "cut" }), maxWidth: 220 };
  const columns = [
    { ...modelColumn(), title: "Base → aligned", titleFormatter: heading("Base → aligned") },
    !isNarrow() && several("family") && column("Family", "family", text),
    several("task") && column("Task", "task", text),
    several("method") && column("Method", "method", text),
    several("setting") && column("Settings", "setting", text),
    column("n", "n", { hozAlign: "right", sorter: "number" }),
    ...metrics.filter((metric) => metric.direction).map(changeColumns),
  ].filter(Boolean);
  const note =
    `${plural(list.length, "row")} on the questions both sides share; change = aligned − base, ` +
    "blue better and orange worse, faded where the 95 % interval contains zero" +
    (metrics.some((m) => isBestAtZero(m.name)) ? " (of overconfidence, or as much on its other side)" : "") +
    (metrics.some((m) => m.name === "ece") ? "; null: the ECE of a calibrated model." : ".");
  return [list, columns, note];
}

function changeColumns(metric) {
  const spoken = (part) => heading(part, { spoken: `${metric.name} ${part}` });
  const plain = (part) =>
    column(part, `${metric.name} ${part}`, {
      titleFormatter: spoken(part),
      sorter: byNumber,
      hozAlign: "right",
      formatter: (cell) => {
        const known = metric.name === "ece" ? nullOf(cell.getData().found.ece, part) : NaN;
        const under = Number.isNaN(known) ? null : h("small", { class: "null" }, `null ${fixed(known)}`);
        return h("span", { class: "number" }, fixed(cell.getValue()), under);
      },
    });
  return {
    title: metric.name + arrow(metric),
    columns: [
      plain("base"),
      plain("aligned"),
      column("change", `${metric.name} change`, {
        titleFormatter: spoken("change"),
        sorter: byNumber,
        hozAlign: "right",
        formatter: (cell) => changeCell(cell.getData().found[metric.name]),
      }),
    ],
  };
}

/** The ECE of a calibrated model on the questions of one side of a change; NaN if they are others. */
function nullOf(change, side) {
  if (!change || !metricIndex.has("ece_null")) return NaN;
  const model = doc.pairs[change.pair][side];
  const same = entries.filter(
    (e) => e.model === model && e.task === change.task && e.method === change.method && e.n - e.unusable === change.n,
  );
  return same.length === 1 ? measured(same[0], "ece_null").value : NaN;
}

function changeCell(change) {
  if (!change || Number.isNaN(change.change)) return h("span", { class: "muted" }, "–");
  const word = change.harm > 0 ? "worse" : change.harm < 0 ? "better" : "same";
  return h(
    "span",
    {
      class: `number change ${word} ${isClear(change) ? "clear" : "faded"}`,
      title: `${word}; 95 % interval ${interval(change.low, change.high)}`,
    },
    signed(change.change),
    Number.isNaN(change.stderr) ? null : h("small", {}, ` ±${fixed(change.stderr)}`),
  );
}
