// Changes from base to aligned models: by family, by task, and their ranks across tasks.

function currentChanges({ anyTask = false } = {}) {
  return changes.filter(
    (c) =>
      c.metric === comparison.metric &&
      (anyTask || c.task === comparison.task) &&
      c.method === comparison.method &&
      (!comparison.family || doc.pairs[c.pair].family === comparison.family),
  );
}

function toneOf(change) {
  const tone = change.harm > 0 ? "--worse" : change.harm < 0 ? "--better" : "--muted";
  return colour(tone);
}

/** What a chart calls a pair: the aligned model, and the settings that tell its changes apart. */
function changeLabel({ pair, setting }) {
  return [plotText(modelNames[doc.pairs[pair].aligned], 28), setting].filter(Boolean).join(", ");
}

/** What a table calls it. */
function changeName({ pair, setting }) {
  return name([pairName(pair), setting].filter(Boolean).join(", "));
}

/** Changes by family, the largest of each first. */
function byFamily(found) {
  const family = (change) => doc.pairs[change.pair].family;
  return [...found].sort((a, b) => family(a).localeCompare(family(b)) || b.change - a.change);
}

function forestChart() {
  if (doc.pairs.length === 0) return NO_PAIRS;
  const found = byFamily(currentChanges().filter((c) => Number.isFinite(c.change)));
  if (found.length === 0) return NOTHING;
  const rows = [...found].reverse(); // Plotly draws from the bottom up
  const labels = rows.map((c) => `${plotText(doc.pairs[c.pair].family, 18)}: ${changeLabel(c)}`);
  return {
    traces: [
      forestTrace(rows, labels, true, "interval tells worse from better"),
      forestTrace(rows, labels, false, unclearWords(comparison.metric)),
    ],
    height: Math.max(220, 110 + 24 * rows.length),
    layout: {
      xaxis: axis(`change of ${comparison.metric}`, { zeroline: true, zerolinewidth: 1.5 }),
      yaxis: axis("", { tickvals: rows.map((_, i) => i), ticktext: labels, range: [-0.7, rows.length - 0.3] }),
      margin: { l: 8, r: 16, t: 28, b: 48 },
      showlegend: true,
    },
    note: harmNote(),
    table: changeTable(found),
  };
}

function forestTrace(rows, labels, clear, title) {
  const of = rows.map((c, i) => ({ c, i })).filter(({ c }) => isClear(c) === clear);
  return {
    x: of.map(({ c }) => c.change),
    y: of.map(({ i }) => i),
    error_x: {
      type: "data",
      symmetric: false,
      array: of.map(({ c }) => c.high - c.change),
      arrayminus: of.map(({ c }) => c.change - c.low),
      color: colour("--muted"),
      thickness: 1.4,
      width: 0,
    },
    mode: "markers",
    marker: { color: of.map(({ c }) => toneOf(c)), size: 9, symbol: clear ? "circle" : "circle-open" },
    opacity: clear ? 1 : 0.55,
    name: title,
    text: of.map(({ c, i }) => `${labels[i]}<br>${signed(c.change)} ${interval(c.low, c.high)}<br>p ${pValue(c.p)}, Holm ${pValue(c.pHolm)}`),
    hovertemplate: "%{text}<extra></extra>",
  };
}

/** How many pairs got worse, of all families; once for each of several settings. */
function harmNote() {
  if (comparison.family) return null;
  const rows = doc.harmed.filter(
    (row) =>
      row.task === doc.tasks[comparison.task] &&
      row.method === doc.methods[comparison.method] &&
      row.metric === comparison.metric,
  );
  const settingOf = settingsOfChanges(doc.changes);
  return h("div", {}, rows.map((row) => {
    const setting = settingOf(row.n_shot, row.chat_template);
    const counts = `${row.n_harmed} of ${plural(row.n_pairs, "pair")} harmed, ${row.n_improved} improved`;
    return h("p", {}, `${setting && `${setting}: `}${counts}; exact sign test p = ${pValue(row.p_value)}.`);
  }));
}

function changeTable(found) {
  return plainTable(
    "Changes",
    ["family", "base", "aligned", "base value", "aligned value", "change", "95 % interval", "p", "p (Holm)", "n"],
    found.map((c) => {
      const { family, base, aligned } = doc.pairs[c.pair];
      const after = [modelNames[aligned], c.setting].filter(Boolean).join(", ");
      return [
        name(family), name(modelNames[base]), name(after), fixed(c.base), fixed(c.aligned),
        signed(c.change), interval(c.low, c.high), pValue(c.p), pValue(c.pHolm), String(c.n),
      ];
    }),
  );
}

/** Tasks side by side; names stand upright where they lack room: aslant, the outermost is cut off. */
function taskAxis(tasks, extra) {
  return axis("", {
    tickvals: tasks.map((_, i) => i),
    ticktext: tasks.map((task) => plotText(doc.tasks[task], 24)),
    autotickangles: [0, -90],
    ...extra,
  });
}

/** Changes as a table: rows are pairs under the same settings, columns are tasks. */
function changeGrid(found) {
  const tasks = [...new Set(found.map((c) => c.task))].sort((a, b) => a - b);
  const key = (c) => `${c.pair} ${c.setting}`;
  const rows = new Map();
  for (const c of found) {
    if (!rows.has(key(c))) rows.set(key(c), tasks.map(() => undefined));
    rows.get(key(c))[tasks.indexOf(c.task)] = c;
  }
  const grid = [...rows.values()];
  return { tasks, grid, labels: grid.map((row) => changeLabel(row.find(Boolean))) };
}

function heatChart() {
  if (doc.pairs.length === 0) return NO_PAIRS;
  const found = currentChanges({ anyTask: true }).filter((c) => Number.isFinite(c.change));
  if (found.length === 0) return NOTHING;
  const { tasks, grid, labels } = changeGrid(found);
  const written = (c) => (c ? (isClear(c) ? signed(c.change) : `(${signed(c.change)})`) : "");
  const text = grid.map((row) => row.map(written));
  const shared = { ...heatScale(grid), texttemplate: tasks.length <= 12 ? "%{text}" : "" };
  const kinds = [true, false].filter((clear) => found.some((c) => isClear(c) === clear));
  return {
    traces: kinds.map((clear, k) => ({
      ...shared,
      ...heatTrace(grid, labels, clear),
      text: grid.map((row, r) => row.map((c, t) => (c && isClear(c) === clear ? text[r][t] : ""))),
      showscale: k === 0,
    })),
    height: Math.max(220, 130 + 24 * grid.length),
    layout: {
      xaxis: taskAxis(tasks, { showgrid: false, zeroline: false }),
      yaxis: axis("", { tickvals: grid.map((_, i) => i), ticktext: labels, autorange: "reversed", showgrid: false, zeroline: false }),
      margin: { l: 8, r: 8, t: 12, b: 48 },
    },
    table: plainTable(
      `Changes by task; brackets: ${unclearWords(comparison.metric)}`,
      ["pair", ...tasks.map((t) => name(doc.tasks[t]))],
      grid.map((row, r) => [changeName(row.find(Boolean)), ...text[r]]),
    ),
  };
}

/** Cells that are clear, or those that are not; coloured by harm: a fall of accuracy is worse. */
function heatTrace(grid, labels, clear) {
  const cells = grid.map((row) => row.map((c) => (c && isClear(c) === clear ? c : null)));
  const told = (c, r) =>
    c ? `${labels[r]}<br>${plotText(doc.tasks[c.task])}<br>${signed(c.change)} ${interval(c.low, c.high)}` : "";
  return {
    z: cells.map((row) => row.map((c) => (c ? Math.sign(c.harm) * Math.abs(c.change) : null))),
    customdata: cells.map((row, r) => row.map((c) => told(c, r))),
    opacity: clear ? 1 : 0.4,
  };
}

/** What the cells of both kinds share: where they lie, and the colours from better to worse. */
function heatScale(grid) {
  const most = Math.max(...grid.flat().map((c) => (c ? Math.abs(c.change) : 0)), 1e-9);
  return {
    type: "heatmap",
    x: grid[0].map((_, i) => i),
    y: grid.map((_, i) => i),
    textfont: { color: colour("--text") },
    hovertemplate: "%{customdata}<extra></extra>",
    hoverongaps: false,
    zmin: -most,
    zmax: most,
    colorscale: [
      [0, colour("--better-fill")],
      [0.5, colour("--panel")],
      [1, colour("--worse-fill")],
    ],
    xgap: 2,
    ygap: 2,
    colorbar: {
      thickness: 10,
      outlinewidth: 0,
      len: Math.min(1, 200 / (60 + 24 * grid.length) + 0.3),
      tickvals: [-most, 0, most],
      ticktext: [`better<br>by ${fixed(most)}`, "0", `worse<br>by ${fixed(most)}`],
    },
  };
}

function bumpChart() {
  if (doc.pairs.length === 0) return NO_PAIRS;
  const found = currentChanges({ anyTask: true }).filter((c) => c.rank !== null);
  const { tasks, grid, labels } = changeGrid(found);
  if (tasks.length < 2 || grid.length < 2) return "Ranks can be compared once at least two pairs were measured on two tasks.";
  return {
    traces: grid.map((row, k) => bumpTrace(row, k, labels[k], grid.length <= 20)),
    height: Math.max(320, 140 + 22 * grid.length),
    layout: {
      xaxis: taskAxis(tasks, { range: [-0.3, tasks.length - 0.7] }),
      yaxis: axis("rank", { autorange: "reversed", dtick: grid.length > 20 ? 10 : 1 }),
    },
    note: agreementNote(),
    table: plainTable(
      "Ranks",
      ["pair", ...tasks.map((t) => name(doc.tasks[t]))],
      grid.map((row) => [changeName(row.find(Boolean)), ...row.map((c) => String(c?.rank ?? ""))]),
    ),
  };
}

function bumpTrace(row, k, label, showlegend) {
  const tone = colour(`--series-${(k % 6) + 1}`);
  return {
    x: row.map((_, i) => i),
    y: row.map((c) => c?.rank ?? null),
    mode: "lines+markers",
    line: { color: tone, width: 2, dash: k % 12 < 6 ? "solid" : "dash" },
    marker: { size: 8, color: tone },
    name: label,
    text: row.map((c) => (c ? `${label}<br>${plotText(doc.tasks[c.task])}: rank ${c.rank}, ${signed(c.change)}` : "")),
    hovertemplate: "%{text}<extra></extra>",
    showlegend,
  };
}

function agreementNote() {
  const agreement = doc.agreement.find(
    (row) => row.method === doc.methods[comparison.method] && row.metric === comparison.metric,
  );
  if (!agreement || agreement.kendalls_w === null) return null;
  return h("p", {}, `All families: Kendall's W ${fixed(agreement.kendalls_w)} over ${plural(agreement.n_pairs, "pair")} and ${plural(agreement.n_tasks, "task")} (permutation p = ${pValue(agreement.p_value)}), mean pairwise τ ${fixed(agreement.mean_tau ?? NaN)}.`);
}
