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

/**
 * What charts call the pairs of changes: the aligned model, the base too where one name stands for
 * several pairs, and the settings that tell changes apart.
 */
function changeLabels(list) {
  const aligned = list.map((c) => modelNames[doc.pairs[c.pair].aligned]);
  const bases = new Map();
  list.forEach((c, i) => bases.set(aligned[i], (bases.get(aligned[i]) ?? new Set()).add(c.pair)));
  const whole = list.map((c, i) => [bases.get(aligned[i]).size > 1 ? pairName(c.pair) : aligned[i], c.setting].filter(Boolean).join(", "));
  return plotNames(whole, isNarrow() ? 22 : 32);
}

/** What a table calls one: it leads to its two runs. */
function changeName(change) {
  return { text: [pairName(change.pair), change.setting].filter(Boolean).join(", "), href: addressOfChange(change) };
}

/** Changes by family, the largest of each first. */
function byFamily(found) {
  const family = (change) => doc.pairs[change.pair].family;
  return [...found].sort((a, b) => family(a).localeCompare(family(b)) || b.change - a.change);
}

function forestChart() {
  if (doc.pairs.length === 0) return ABSENT;
  const found = byFamily(currentChanges().filter((c) => Number.isFinite(c.change)));
  if (found.length === 0) return NOTHING;
  const rows = [...found].reverse(); // Plotly draws from the bottom up
  const families = new Set(rows.map((c) => doc.pairs[c.pair].family));
  const names = changeLabels(rows);
  const labels = rows.map((c, i) => (families.size > 1 ? `${plotText(doc.pairs[c.pair].family, 18)}: ${names[i]}` : names[i]));
  return {
    traces: [
      forestTrace(rows, labels, true, "told apart"),
      forestTrace(rows, labels, false, "not told apart"),
    ],
    height: Math.max(220, 110 + 24 * rows.length),
    layout: {
      xaxis: axis(`change of ${comparison.metric}`, { zeroline: true, zerolinewidth: 2, zerolinecolor: colour("--muted"), range: rangeWithZero(rows.flatMap((c) => [c.low, c.high, c.change])) }),
      yaxis: axis("", { tickvals: rows.map((_, i) => i), ticktext: labels, range: [-0.7, rows.length - 0.3] }),
      margin: { l: 8, r: 16, t: 28, b: 48 },
      showlegend: true,
    },
    open: ({ customdata }) => addressOfChange(customdata),
    openTick: (place) => addressOfChange(rows[place]),
    note: harmNote(),
    table: changeTable(found),
  };
}

function forestTrace(rows, labels, clear, title) {
  const of = rows.map((c, i) => ({ c, i })).filter(({ c }) => c.clear === clear);
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
    marker: { color: of.map(({ c }) => (clear ? toneOf(c) : colour("--panel"))), line: { color: of.map(({ c }) => toneOf(c)), width: 1.8 }, size: 10 },
    name: title,
    customdata: of.map(({ c }) => c),
    text: of.map(({ c, i }) => `${labels[i]}<br>${signed(c.change)} ${interval(c.low, c.high)}<br>p ${pValue(c.p)}, Holm ${evidence(c)}`),
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
  return {
    columns: ["family", "base", "aligned", "base value", "aligned value", "change", "95 % interval", "p", "p (Holm)", "n"],
    rows: found.map((c) => {
      const { family, base, aligned } = doc.pairs[c.pair];
      const after = [modelNames[aligned], c.setting].filter(Boolean).join(", ");
      return [
        { text: family }, { text: modelNames[base], href: addressOfEntry(c.sides[0]) }, { text: after, href: addressOfChange(c) }, fixed(c.base), fixed(c.aligned),
        signed(c.change), interval(c.low, c.high), pValue(c.p), evidence(c), String(c.n),
      ];
    }),
  };
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
  return { tasks, grid, labels: changeLabels(grid.map((row) => row.find(Boolean))) };
}

/** A pair's change on the task that is chosen, if it was measured on that. */
const onTask = (row) => row.find((c) => c?.task === comparison.task) ?? row.find(Boolean);

function heatChart() {
  if (doc.pairs.length === 0) return ABSENT;
  const found = currentChanges({ anyTask: true }).filter((c) => Number.isFinite(c.change));
  if (found.length === 0) return NOTHING;
  const { tasks, grid, labels } = changeGrid(found);
  const written = (c) => (c ? (c.clear ? signed(c.change) : `(${signed(c.change)})`) : "");
  const text = grid.map((row) => row.map(written));
  const shared = { ...heatScale(grid), texttemplate: tasks.length <= 12 ? "%{text}" : "" };
  const kinds = [true, false].filter((clear) => found.some((c) => c.clear === clear));
  return {
    traces: kinds.map((clear, k) => ({
      ...shared,
      ...heatTrace(grid, labels, clear),
      text: grid.map((row, r) => row.map((c, t) => (c && c.clear === clear ? text[r][t] : ""))),
      showscale: k === 0,
    })),
    height: Math.max(220, 130 + 24 * grid.length),
    layout: {
      xaxis: taskAxis(tasks, { showgrid: false, zeroline: false }),
      yaxis: axis("", { tickvals: grid.map((_, i) => i), ticktext: labels, autorange: "reversed", showgrid: false, zeroline: false }),
      margin: { l: 8, r: 8, t: 12, b: 48 },
    },
    open: ({ x, y }) => (grid[y][x] ? addressOfChange(grid[y][x]) : null),
    openTick: (place) => addressOfChange(onTask(grid[place])),
    table: {
      columns: ["pair", ...tasks.map((t) => doc.tasks[t])],
      rows: grid.map((row, r) => [changeName(row.find(Boolean)), ...text[r]]),
    },
  };
}

/** Cells that are clear, or those that are not, paler; coloured by harm: a fall of accuracy is worse. */
function heatTrace(grid, labels, clear) {
  const cells = grid.map((row) => row.map((c) => (c && c.clear === clear ? c : null)));
  const told = (c, r) =>
    c ? `${labels[r]}<br>${plotText(doc.tasks[c.task])}<br>${signed(c.change)} ${interval(c.low, c.high)}<br>p ${pValue(c.p)}, Holm ${evidence(c)}` : "";
  return {
    z: cells.map((row) => row.map((c) => (c ? Math.sign(c.harm) * Math.abs(c.change) : null))),
    customdata: cells.map((row, r) => row.map((c) => told(c, r))),
    colorscale: [
      [0, colour(clear ? "--better-fill" : "--better-pale")],
      [0.5, colour("--panel")],
      [1, colour(clear ? "--worse-fill" : "--worse-pale")],
    ],
  };
}

/** What the cells of both kinds share: where they lie, and the scale from better to worse. */
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
