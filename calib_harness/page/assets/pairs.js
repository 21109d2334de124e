// Pairs of base and aligned models in the leaderboard: both sides, the change, and its test.

const CHANGE_FILTERS = [["", "All"], ["worse", "Measurably worse"], ["better", "Measurably better"], ["either", "Measurably changed"], ["neither", "Not told apart"]];

/** Whether a row is among those chosen by what its tests say of the metrics that are shown. */
function passes(row, kind, metrics) {
  if (!kind) return true;
  const told = metrics.map((m) => row.found[m.name]).filter((c) => c && c.clear);
  if (kind === "neither") return told.length === 0;
  if (kind === "either") return told.length > 0;
  return told.some((c) => (kind === "worse" ? c.harm > 0 : c.harm < 0));
}

/** Base and aligned side by side, with the change between them. */
function pairBoard(filter, chosen, matches) {
  const known = filter.metrics.filter((metric) => changedMetrics().has(metric.name));
  const metrics = [...known.filter((m) => m.of_changes), ...known.filter((m) => !m.of_changes)]; // the primary test first
  const rows = new Map();
  for (const change of changes) {
    const { family, base, aligned } = doc.pairs[change.pair];
    if (filter.task !== null && change.task !== filter.task) continue;
    if (filter.method !== null && change.method !== filter.method) continue;
    if (!matches(base) && !matches(aligned)) continue;
    const key = `${change.sides[0].i} ${change.sides[1].i} ${change.pair}`;
    const row = rows.get(key) ?? {
      href: addressOfChange(change),
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
    row[`${change.metric} change`] = harmOf(change);
    row[`${change.metric} p`] = change.pHolm;
    rows.set(key, row);
  }
  const list = [...rows.values()].filter((row) => passes(row, chosen.changes, metrics));
  const several = (key) => new Set(list.map((row) => row[key])).size > 1;
  const text = { maxWidth: 220 };
  const columns = [
    frozenName("Base → aligned", "name", (row) => row.href),
    !isNarrow() && several("family") && nameColumn("Family", "family", text),
    several("task") && nameColumn("Task", "task", text),
    several("method") && nameColumn("Method", "method", text),
    several("setting") && nameColumn("Settings", "setting", text),
    column("n", "n", { hozAlign: "right", sorter: "number" }),
    ...metrics.map((metric) => changeColumns(metric, chosen.spread)),
  ].filter(Boolean);
  return [list, columns, pairNote(list.length, metrics)];
}

const changedMetrics = (() => {
  let known = null;
  return () => (known ??= new Set(changes.map((change) => change.metric)));
})();

function pairNote(count, metrics) {
  const biased = metrics.filter((metric) => metric.biased);
  return [
    h("span", {},
      `${plural(count, "row")} on the questions both sides share; change = aligned − base, sorted by harm. ` +
        `Blue better and orange worse; faded where not told apart (a change is told apart if ${clearWords()}). ` +
        (metrics.some((m) => m.name === "ece") ? "null: the ECE of a calibrated model. " : "")),
    biased.length > 0 && biasedWords(biased),
  ].filter(Boolean);
}

/** What makes a change clear; how p-values were corrected stands at the foot of the page. */
function clearWords() {
  return doc.tests.clear;
}

function changeColumns(metric, spread) {
  const spoken = (part) => heading(part, { spoken: `${metric.name} ${part}` });
  const plain = (part) =>
    column(part, `${metric.name} ${part}`, {
      titleFormatter: spoken(part),
      sorter: byNumber,
      hozAlign: "right",
      words: (row) => fixed(row[`${metric.name} ${part}`] ?? NaN),
      formatter: (cell) => {
        const known = metric.name === "ece" ? nullOf(cell.getData().found.ece, part) : NaN;
        const under = Number.isNaN(known) ? null : h("small", { class: "null" }, `null ${fixed(known)}`);
        return h("span", { class: "number" }, fixed(cell.getValue() ?? NaN), under);
      },
    });
  const of = (row) => row.found[metric.name];
  return {
    title: metric.name + arrow(metric),
    name: metric.name,
    columns: [
      plain("base"),
      plain("aligned"),
      column("change", `${metric.name} change`, {
        titleFormatter: spoken("change"),
        sorter: byNumber,
        headerSortStartingDir: "desc", // harm first
        hozAlign: "right",
        words: (row) => (of(row) ? signedWords(of(row), spread) : "–"),
        csv: (row) => numbersOf(`${metric.name} change`, changeNumbers(of(row))),
        formatter: (cell) => changeCell(of(cell.getData()), spread),
      }),
      column("p (Holm)", `${metric.name} p`, {
        titleFormatter: spoken("p (Holm)"),
        sorter: byNumber,
        headerSortStartingDir: "asc",
        hozAlign: "right",
        words: (row) => (of(row) ? evidence(of(row)) : "–"),
        formatter: (cell) => h("span", { class: "number" }, of(cell.getData()) ? evidence(of(cell.getData())) : "–"),
      }),
    ],
  };
}

const changeNumbers = (change) =>
  change ? { value: change.change, stderr: change.stderr, low: change.low, high: change.high } : { value: NaN, stderr: NaN, low: NaN, high: NaN };

/** A corrected p, where so few resamples could show anything at all. */
function evidence(change) {
  return doc.tests.can_decide[metricIndex.get(change.metric)] ? pValue(change.pHolm) : "undecided";
}

/** The ECE of a calibrated model on the questions of one side of a change; NaN if they are others. */
function nullOf(change, side) {
  if (!change || !metricIndex.has("ece_null")) return NaN;
  const entry = change.sides[side === "base" ? 0 : 1];
  return entry.n - entry.unusable === change.n ? measured(entry, "ece_null").value : NaN;
}

function signedWords(change, spread) {
  if (Number.isNaN(change.change)) return "–";
  if (spread === "none" || Number.isNaN(change.stderr)) return signed(change.change);
  return spread === "interval" ? `${signed(change.change)} ${interval(change.low, change.high)}` : `${signed(change.change)} ±${fixed(change.stderr)}`;
}

function changeCell(change, spread) {
  if (!change || Number.isNaN(change.change)) return h("span", { class: "muted" }, "–");
  const word = change.harm > 0 ? "worse" : change.harm < 0 ? "better" : "same";
  return h(
    "span",
    { class: `number change ${word} ${change.clear ? "clear" : "faded"}` },
    signed(change.change),
    beside(change, spread),
    h("span", { class: "sr" }, change.clear ? `, measurably ${word}` : ", not told apart"),
  );
}
