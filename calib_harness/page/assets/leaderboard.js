// The leaderboard: models × metrics, or base and aligned models side by side (pairs.js).

const MEAN = "mean over tasks"; // a choice of task that is none: commas keep it from any task's name
const SHOWN_FIRST = 8; // metrics that are shown unless others are chosen
const SPREADS = [["stderr", "± standard error"], ["interval", "95 % interval"], ["none", "value alone"]];

const board = { table: null };

views.leaderboard = {
  defaults: () => {
    const best = mostCommonCombination();
    return {
      rows: "models",
      task: doc.tasks[best.task],
      method: doc.methods[best.method],
      family: "",
      stage: "",
      search: "",
      changes: "",
      spread: "stderr",
      metrics: [...doc.metrics.slice(0, SHOWN_FIRST), ...doc.metrics.filter((m) => m.of_changes)].map((m) => m.name).join(","),
      sort: null,
    };
  },
  show: (chosen) => {
    const filter = boardFilter(chosen);
    drawBoardControls(chosen, filter);
    // Of everything, until somebody chooses: the first task need not be the one that tells most.
    const asked = (key) => key in (given.leaderboard ?? {});
    showVerdict(asked("task") ? filter.task : null, asked("method") ? filter.method : null);
    drawBoard(chosen, filter);
  },
};

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

/** Places of the task and the method that were chosen; null for all. Methods follow the task. */
function boardFilter({ task, method, metrics, rows }) {
  const isMean = task === MEAN && rows !== "pairs";
  const taskPlace = task === "" || task === MEAN ? null : placeOf(doc.tasks, task, "task");
  const offered = methodsOf(taskPlace);
  const wanted = method === "" ? null : placeOf(doc.methods, method, "method", offered[0]);
  const has = wanted === null || offered.includes(wanted);
  if (!has) now.misses.push(`${shown(task)} was not measured by ${shown(method)}: ${doc.methods[offered[0]]} is shown.`);
  const names = new Set(metrics.split(","));
  return { isMean, task: taskPlace, method: has ? wanted : offered[0], offered, metrics: doc.metrics.filter((m) => names.has(m.name)) };
}

function drawBoardControls(chosen, filter) {
  const set = (key) => (value) => alter({ [key]: value });
  const families = distinct(doc.models.map((model) => model.family));
  const stages = distinct(doc.models.map((model) => model.stage)).sort(byStage);
  const tasks = named(doc.tasks, "All tasks");
  if (doc.tasks.length > 1 && chosen.rows !== "pairs") tasks.push([MEAN, "Mean over tasks"]);
  const methods = filter.offered.map((m) => doc.methods[m]);
  replaceControls(
    document.getElementById("leaderboard-controls"),
    doc.pairs.length > 0 &&
      choose("Rows", [["models", "Models"], ["pairs", "Base → aligned"]], chosen.rows, set("rows")),
    choose("Task", tasks, filter.isMean ? MEAN : filter.task === null ? "" : doc.tasks[filter.task], set("task")),
    choose("Method", named(methods, "All methods"), filter.method === null ? "" : doc.methods[filter.method], set("method")),
    families.length > 0 && choose("Family", [["", "All families"], ...named(families)], chosen.family, set("family")),
    stages.length > 0 && choose("Stage", [["", "All stages"], ...named(stages)], chosen.stage, set("stage")),
    chosen.rows === "pairs" && choose("Show changes", CHANGE_FILTERS, chosen.changes, set("changes")),
    search("Search models", chosen.search, set("search")),
    choose("Beside values", SPREADS, chosen.spread, set("spread")),
    chooseMany(
      "Metrics",
      doc.metrics.map((metric) => [metric.name, metric.name]),
      new Set(filter.metrics.map((metric) => metric.name)),
      (names) => alter({ metrics: doc.metrics.map((m) => m.name).filter((m) => names.includes(m)).join(",") }),
    ),
  );
}

/** Whether a model is among those that family, stage and search leave. */
function modelMatcher({ family, stage, search: text }) {
  const wanted = text.trim().toLowerCase();
  return (model) => {
    const known = doc.models[model];
    return (
      (!family || known.family === family) &&
      (!stage || known.stage === stage) &&
      (!wanted || `${known.label} ${known.family} ${known.stage}`.toLowerCase().includes(wanted))
    );
  };
}

function drawBoard(chosen, filter) {
  const target = document.getElementById("leaderboard-table");
  const note = document.getElementById("leaderboard-note");
  board.table?.destroy();
  board.table = null;
  const matches = modelMatcher(chosen);
  const found = entries.filter(
    (e) =>
      (filter.task === null || e.task === filter.task) &&
      (filter.method === null || e.method === filter.method) &&
      matches(e.model),
  );
  const measuredOnes = filter.metrics.filter((metric) => !metric.of_changes);
  const [rows, columns, text] =
    chosen.rows === "pairs"
      ? pairBoard(filter, chosen, matches)
      : filter.isMean
        ? meanBoard(measuredOnes, found)
        : modelBoard(measuredOnes, found, chosen.spread);
  replace(note, text);
  if (rows.length === 0) {
    replace(target, h("p", { class: "empty" }, "Nothing matches: choose another task or method, or clear the search."));
    return;
  }
  target.replaceChildren();
  board.table = makeTable(target, chosen.rows === "pairs" ? "Changes" : "Leaderboard", rows, columns, {
    file: [filter.isMean ? "mean" : doc.tasks[filter.task], doc.methods[filter.method]],
    sort: sortOf(chosen.sort ?? harmFirst(chosen, columns)),
    onsort: (sort) => remember("leaderboard", { sort }),
  });
}

/** Pairs come by the harm of the first metric that is shown, unless a reader sorts them. */
function harmFirst({ rows }, columns) {
  const first = columns.find((c) => c.columns);
  return rows === "pairs" && first ? `${first.name} change,desc` : null;
}

/** Table of entries: one row each, a cell with error and interval for every metric. */
function modelBoard(metrics, found, spread) {
  const best = distinguishable(found, metrics);
  const rows = found.map((entry) => {
    const model = doc.models[entry.model];
    const row = {
      entry,
      href: addressOfEntry(entry),
      name: modelNames[entry.model],
      family: model.family,
      stage: model.stage,
      task: doc.tasks[entry.task],
      method: doc.methods[entry.method],
      setting: settingName(entry.setting),
      date: entry.run.date.slice(0, 16).replace("T", " "),
      n: entry.n,
      unusable: entry.unusable,
    };
    for (const metric of metrics) row[metric.name] = measured(entry, metric.name).value;
    return row;
  });
  const several = (key) => new Set(rows.map((row) => row[key])).size > 1;
  const text = { maxWidth: 220 };
  const place = [
    several("family") && nameColumn("Family", "family", text),
    several("stage") && nameColumn("Stage", "stage", { ...text, sorter: byStage }),
  ];
  const repeated = new Set(found.map((e) => JSON.stringify({ ...entryKey(e), date: undefined }))).size < found.length;
  // On a phone the numbers come first.
  const [before, after] = isNarrow() ? [[], place] : [place, []];
  const columns = [
    frozenName("Model", "name", (row) => row.href),
    ...before,
    several("task") && nameColumn("Task", "task", text),
    several("method") && nameColumn("Method", "method", text),
    several("setting") && nameColumn("Settings", "setting", text),
    repeated && nameColumn("Date", "date", text),
    column("n", "n", { hozAlign: "right", sorter: "number" }),
    rows.some((row) => row.unusable) &&
      column("unusable", "unusable", { hozAlign: "right", sorter: "number" }),
    ...metrics.map((metric) => metricColumn(metric, found, best, spread)),
    ...after,
  ].filter(Boolean);
  return [rows, columns, boardNote(rows.length, metrics)];
}

function boardNote(count, metrics) {
  const { n_bins: bins, binning } = doc.options;
  const biased = metrics.filter((metric) => metric.biased);
  return [
    h("span", {},
      `${plural(count, "row")}. M = ${bins} bins (${binning.replace("_", " ")}). Bold: the best among rows of the same ` +
      "questions, shots and template, where its interval overlaps no other's. "),
    biased.length > 0 && biasedWords(biased),
  ].filter(Boolean);
}

/** Why an estimate may stand at the end of its interval, wherever there are such. */
function biasedWords(biased) {
  const names = biased.map((metric) => metric.name).join(", ");
  const why = h("button", { type: "button", class: "linklike", click: () => showDefinitions("bias-note") }, "why");
  return h("span", { class: "bias" }, `Of ${names} the value lies above the truth on average, and often near the upper end of its interval (`, why, ").");
}

function arrow(metric) {
  return { lower: " ↓", higher: " ↑", zero: " → 0" }[metric.direction] ?? "";
}

function metricColumn(metric, found, best, spread) {
  const all = found.map((entry) => measured(entry, metric.name));
  const low = Math.min(...all.map((m) => m.low).filter(Number.isFinite));
  const high = Math.max(...all.map((m) => m.high).filter(Number.isFinite));
  const of = (row) => measured(row.entry, metric.name);
  return column(metric.name, metric.name, {
    titleFormatter: heading(metric.name + arrow(metric), { define: metric.name }),
    sorter: byNumber,
    headerSortStartingDir: metric.direction === "higher" ? "desc" : "asc",
    hozAlign: "right",
    words: (row) => spreadWords(of(row), spread),
    csv: (row) => numbersOf(metric.name, of(row)),
    formatter: (cell) => {
      const { entry } = cell.getData();
      const m = measured(entry, metric.name);
      if (Number.isNaN(m.value)) return h("span", { class: "muted" }, "–");
      return h(
        "span",
        { class: "number" },
        h(best.has(`${entry.i} ${metric.name}`) ? "strong" : "span", {}, fixed(m.value)),
        beside(m, spread),
        errorBar(m, low, high),
        metric.name === "ece" && asIfCalibrated(entry) && h("small", { class: "as-if" }, "not told from calibrated"),
      );
    },
  });
}

/** Whether the ECE of an entry cannot be told from that of a calibrated model. */
const asIfCalibrated = (entry) => doc.entries.calibrated[entry.i] === 1;

/** What stands beside a value: its standard error, its interval, or nothing. */
function beside(m, spread) {
  if (spread === "none" || Number.isNaN(m.stderr)) return null;
  if (spread === "interval") return h("small", { class: "interval" }, interval(m.low, m.high));
  return h("small", {}, ` ±${fixed(m.stderr)}`);
}

function spreadWords(m, spread) {
  if (Number.isNaN(m.value)) return "–";
  if (spread === "none" || Number.isNaN(m.stderr)) return fixed(m.value);
  return spread === "interval" ? `${fixed(m.value)} ${interval(m.low, m.high)}` : `${fixed(m.value)} ±${fixed(m.stderr)}`;
}

/** The numbers of a cell under names of their own, for files. */
function numbersOf(label, m) {
  const text = (value) => (Number.isNaN(value) ? "" : String(Number(value.toPrecision(7))));
  return [[label, text(m.value)], [`${label} stderr`, text(m.stderr)], [`${label} low`, text(m.low)], [`${label} high`, text(m.high)]];
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

/** "entry metric" of every best value whose interval overlaps no other's, among comparable rows. */
function distinguishable(found, metrics) {
  const best = new Set();
  const groups = new Map();
  for (const entry of found) {
    const { n_shot: shots, chat_template: chat } = doc.settings[entry.setting];
    const key = [entry.task, entry.method, entry.questions, shots, chat].join(" ");
    groups.set(key, [...(groups.get(key) ?? []), entry]);
  }
  for (const metric of metrics) {
    const cost = { lower: (v) => v, higher: (v) => -v, zero: Math.abs }[metric.direction];
    if (!cost) continue;
    for (const group of groups.values()) {
      const values = group
        .map((entry) => ({ entry, ...measured(entry, metric.name) }))
        .filter((m) => Number.isFinite(m.value))
        .sort((a, b) => cost(a.value) - cost(b.value));
      const [first, ...others] = values;
      const apart = (other) => first.low > other.high || first.high < other.low;
      if (others.length > 0 && others.every(apart)) best.add(`${first.entry.i} ${metric.name}`);
    }
  }
  return best;
}

/** Means over tasks: one row per model × method × settings that has every task of the method. */
function meanBoard(metrics, found) {
  const groups = new Map();
  for (const entry of found) {
    const key = `${entry.model} ${entry.method} ${entry.setting}`;
    groups.set(key, [...(groups.get(key) ?? []), entry]);
  }
  const needed = new Map(found.map(({ method }) => [method, new Set(entries.filter((e) => e.method === method).map((e) => e.task)).size]));
  const whole = [...groups.values()].filter((group) => new Set(group.map((e) => e.task)).size === needed.get(group[0].method) && group.length === needed.get(group[0].method));
  const rows = whole.map((group) => {
    const [{ model, method, setting }] = group;
    const row = { name: modelNames[model], href: addressOf("model", { model: doc.models[model].label, method: doc.methods[method] }), method: doc.methods[method], setting: settingName(setting), n_tasks: group.length };
    for (const { name: key } of metrics) {
      const all = group.map((entry) => measured(entry, key));
      row[key] = all.reduce((sum, m) => sum + m.value, 0) / all.length;
      row[`${key} stderr`] = Math.sqrt(all.reduce((sum, m) => sum + m.stderr ** 2, 0)) / all.length;
    }
    return row;
  });
  const several = (key) => new Set(rows.map((row) => row[key])).size > 1;
  const columns = [
    frozenName("Model", "name", (row) => row.href),
    several("method") && nameColumn("Method", "method"),
    several("setting") && nameColumn("Settings", "setting"),
    column("tasks", "n_tasks", { hozAlign: "right", sorter: "number" }),
    ...metrics.map(({ name: key }) =>
      column(key, key, {
        sorter: byNumber,
        hozAlign: "right",
        words: (row) => spreadWords({ value: row[key], stderr: row[`${key} stderr`] }, "stderr"),
        formatter: (cell) => {
          const stderr = cell.getData()[`${key} stderr`];
          return h("span", { class: "number" }, fixed(cell.getValue()), Number.isNaN(stderr) ? null : h("small", {}, ` ±${fixed(stderr)}`));
        },
      }),
    ),
  ].filter(Boolean);
  const left = groups.size - whole.length;
  const text =
    `${plural(rows.length, "row")}. A mean of estimates over tasks: each is biased upwards by an amount of its own, ` +
    "so it is no calibration error of anything, and models that are told apart by it need not differ on any task. " +
    (left ? `${plural(left, "run")} without every task of the method ${left === 1 ? "is" : "are"} left out.` : "");
  return [rows, columns, [h("span", { class: "warning" }, text)]];
}
