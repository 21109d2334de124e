// The comparison: changes by family and task, ranks, accuracy against calibration, trajectories.

const comparison = { metric: "ece", task: 0, method: 0, family: "", cards: null };

function showCompare() {
  if (comparison.cards === null) {
    comparison.metric = metricIndex.has("ece") ? "ece" : doc.metrics[0].name;
    comparison.task = board.task < 0 ? 0 : board.task;
    comparison.method = board.method < 0 ? 0 : board.method;
    comparison.cards = compareCards();
    replace(document.getElementById("compare-cards"), comparison.cards);
  }
  drawCompareControls();
  drawCompare();
}

function drawCompare() {
  for (const figure of comparison.cards) figure.draw();
}

function drawCompareControls() {
  const set = (key, convert = String) => (value) => {
    comparison[key] = convert(value);
    drawCompare();
  };
  const families = distinct(doc.models.map((model) => model.family));
  replace(
    document.getElementById("compare-controls"),
    choose(
      "Metric",
      doc.metrics.filter((m) => m.direction).map((m) => [m.name, m.name]),
      comparison.metric,
      set("metric"),
    ),
    choose("Task", optionsFor(doc.tasks), comparison.task, set("task", Number)),
    choose("Method", optionsFor(doc.methods), comparison.method, set("method", Number)),
    families.length > 0 &&
      choose("Family", [["", "All families"], ...families.map((f) => [f, f])], comparison.family, set("family")),
  );
}

function inFamily(model) {
  return !comparison.family || doc.models[model].family === comparison.family;
}

function currentChanges({ anyTask = false } = {}) {
  return changes.filter(
    (c) =>
      c.metric === comparison.metric &&
      (anyTask || c.task === comparison.task) &&
      c.method === comparison.method &&
      (!comparison.family || doc.pairs[c.pair].family === comparison.family),
  );
}

function currentEntries() {
  return entries.filter(
    (e) => e.task === comparison.task && e.method === comparison.method && inFamily(e.model),
  );
}

const NO_PAIRS = "No pairs of base and aligned models: name them with --pairs pairs.csv (family, base, aligned).";
const NOTHING = "Nothing measured for this task, method and family.";

function compareCards() {
  return [
    card("Change by family", "Aligned − base with its 95 % interval; faded where that contains zero.", forestChart, { id: "forest", wide: true }),
    card("Change by task", "Aligned − base for every pair and task; numbers in brackets cannot be told from zero.", heatChart, { id: "heat", wide: true }),
    card("Ranks across tasks", "Pairs by their relative change in each task, 1 the largest: parallel lines mean that tasks agree.", bumpChart, { id: "bump", wide: true }),
    card("Accuracy against calibration", "Each arrow leads from a base model to its aligned one.", arrowChart, { id: "arrows" }),
    card("Risk and coverage", "Share of wrong answers if only the most confident are given.", compareRisk, { id: "risk" }),
    card("Trajectories", "A metric along stages or checkpoints, with 95 % intervals.", trajectoryChart, { id: "trajectories", wide: true }),
  ];
}

function toneOf(change) {
  const tone = change.harm > 0 ? "--worse" : change.harm < 0 ? "--better" : "--muted";
  return colour(tone);
}

/** How many pairs were harmed; named by prompt settings where there are several. */
function harmText(row, several) {
  const settings = [];
  if (several && row.n_shot !== null) settings.push(`${row.n_shot}-shot`);
  if (several && row.chat_template !== null) settings.push(row.chat_template ? "chat template" : "no chat template");
  const title = settings.length > 0 ? `${settings.join(", ")}: ` : "";
  return `${title}${row.n_harmed} of ${row.n_pairs} pairs harmed, ${row.n_improved} improved; exact sign test p = ${pValue(row.p_value)}.`;
}

function forestChart() {
  if (doc.pairs.length === 0) return NO_PAIRS;
  const found = currentChanges().filter((c) => Number.isFinite(c.change));
  if (found.length === 0) return NOTHING;
  found.sort(
    (a, b) =>
      doc.pairs[a.pair].family.localeCompare(doc.pairs[b.pair].family) || b.change - a.change,
  );
  found.reverse(); // Plotly draws from the bottom up
  const labels = found.map((c) => `${plotText(doc.pairs[c.pair].family, 18)}: ${plotText(modelNames[doc.pairs[c.pair].aligned], 28)}`);
  const trace = (clear, title) => {
    const of = found.map((c, i) => ({ c, i })).filter(({ c }) => isClear(c) === clear);
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
  };
  const harmed = doc.harmed.filter(
    (row) =>
      row.task === doc.tasks[comparison.task] &&
      row.method === doc.methods[comparison.method] &&
      row.metric === comparison.metric,
  );
  return {
    traces: [trace(true, "interval leaves zero out"), trace(false, "interval contains zero")],
    height: Math.max(220, 110 + 24 * found.length),
    layout: {
      xaxis: axis(`change of ${comparison.metric}`, { zeroline: true, zerolinewidth: 1.5 }),
      yaxis: axis("", { tickvals: found.map((_, i) => i), ticktext: labels, range: [-0.7, found.length - 0.3] }),
      margin: { l: 8, r: 16, t: 28, b: 48 },
    },
    note:
      harmed.length > 0 && !comparison.family
        ? h("div", {}, ...harmed.map((row) => h("p", {}, harmText(row, harmed.length > 1))))
        : null,
    table: plainTable(
      "Changes",
      ["family", "base", "aligned", "base value", "aligned value", "change", "95 % interval", "p", "p (Holm)", "n"],
      [...found].reverse().map((c) => {
        const { family, base, aligned } = doc.pairs[c.pair];
        return [
          name(family), name(modelNames[base]), name(modelNames[aligned]), fixed(c.base), fixed(c.aligned),
          signed(c.change), interval(c.low, c.high), pValue(c.p), pValue(c.pHolm), String(c.n),
        ];
      }),
    ),
  };
}

/** A colour scale from better through the page's background to worse. */
function changeScale(direction) {
  const scale = [
    [0, colour("--better-fill")],
    [0.5, colour("--panel")],
    [1, colour("--worse-fill")],
  ];
  if (direction !== "higher") return scale;
  return [
    [0, scale[2][1]],
    scale[1],
    [1, scale[0][1]],
  ];
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

function heatChart() {
  if (doc.pairs.length === 0) return NO_PAIRS;
  const found = currentChanges({ anyTask: true }).filter((c) => Number.isFinite(c.change));
  if (found.length === 0) return NOTHING;
  const tasks = [...new Set(found.map((c) => c.task))].sort((a, b) => a - b);
  const pairs = [...new Set(found.map((c) => c.pair))].sort((a, b) => b - a);
  const cell = (pair, task) => found.find((c) => c.pair === pair && c.task === task);
  const grid = pairs.map((pair) => tasks.map((task) => cell(pair, task)));
  const text = grid.map((row) =>
    row.map((c) => (c ? (isClear(c) ? signed(c.change) : `(${signed(c.change)})`) : "")),
  );
  const names = pairs.map((pair) => plotText(modelNames[doc.pairs[pair].aligned], 28));
  const most = Math.max(...found.map((c) => Math.abs(c.change)), 1e-9);
  const { direction } = doc.metrics[metricIndex.get(comparison.metric)];
  return {
    traces: [
      {
        type: "heatmap",
        z: grid.map((row) => row.map((c) => (c ? c.change : null))),
        x: tasks.map((_, i) => i),
        y: pairs.map((_, i) => i),
        text,
        textfont: { color: colour("--text") },
        texttemplate: tasks.length <= 12 ? "%{text}" : "",
        customdata: grid.map((row, r) => row.map((c, k) => (c ? `${names[r]}<br>${plotText(doc.tasks[tasks[k]])}<br>${signed(c.change)} ${interval(c.low, c.high)}` : ""))),
        hovertemplate: "%{customdata}<extra></extra>",
        zmin: -most,
        zmax: most,
        colorscale: changeScale(direction),
        xgap: 2,
        ygap: 2,
        colorbar: { thickness: 10, outlinewidth: 0, len: Math.min(1, 200 / (60 + 24 * pairs.length) + 0.3) },
      },
    ],
    height: Math.max(220, 130 + 24 * pairs.length),
    layout: {
      xaxis: taskAxis(tasks, { showgrid: false, zeroline: false }),
      yaxis: axis("", { tickvals: pairs.map((_, i) => i), ticktext: names, showgrid: false, zeroline: false }),
      margin: { l: 8, r: 8, t: 12, b: 48 },
    },
    table: plainTable(
      "Changes by task; brackets: interval contains zero",
      ["pair", ...tasks.map((t) => name(doc.tasks[t]))],
      pairs.map((pair, r) => [name(pairName(pair)), ...text[r]]).reverse(),
    ),
  };
}

function bumpChart() {
  if (doc.pairs.length === 0) return NO_PAIRS;
  const found = currentChanges({ anyTask: true }).filter((c) => c.rank !== null);
  const tasks = [...new Set(found.map((c) => c.task))].sort((a, b) => a - b);
  const pairs = [...new Set(found.map((c) => c.pair))];
  if (tasks.length < 2 || pairs.length < 2) return "Ranks can be compared once at least two pairs were measured on two tasks.";
  const lines = pairs.map((pair, k) => {
    const own = tasks.map((task) => found.find((c) => c.pair === pair && c.task === task));
    const label = plotText(modelNames[doc.pairs[pair].aligned], 28);
    const tone = colour(`--series-${(k % 6) + 1}`);
    return {
      x: tasks.map((_, i) => i),
      y: own.map((c) => c?.rank ?? null),
      mode: "lines+markers",
      line: { color: tone, width: 2, dash: k % 12 < 6 ? "solid" : "dash" },
      marker: { size: 8, color: tone },
      name: label,
      text: own.map((c) => (c ? `${label}<br>${plotText(doc.tasks[c.task])}: rank ${c.rank}, ${signed(c.change)}` : "")),
      hovertemplate: "%{text}<extra></extra>",
      showlegend: pairs.length <= 20,
    };
  });
  const agreement = doc.agreement.find(
    (row) => row.method === doc.methods[comparison.method] && row.metric === comparison.metric,
  );
  return {
    traces: lines,
    height: Math.max(320, 140 + 22 * pairs.length),
    layout: {
      xaxis: taskAxis(tasks, { range: [-0.3, tasks.length - 0.7] }),
      yaxis: axis("rank", { autorange: "reversed", dtick: pairs.length > 20 ? 10 : 1 }),
    },
    note:
      agreement && agreement.kendalls_w !== null
        ? h("p", {}, `All families: Kendall's W ${fixed(agreement.kendalls_w)} over ${agreement.n_pairs} pairs and ${agreement.n_tasks} tasks (permutation p = ${pValue(agreement.p_value)}), mean pairwise τ ${fixed(agreement.mean_tau ?? NaN)}.`)
        : null,
    table: plainTable(
      "Ranks",
      ["pair", ...tasks.map((t) => name(doc.tasks[t]))],
      pairs.map((pair, k) => [name(pairName(pair)), ...lines[k].y.map((rank) => String(rank ?? ""))]),
    ),
  };
}

function arrowChart() {
  if (!metricIndex.has("acc")) return "Accuracy is not among this page's metrics.";
  const metric = comparison.metric === "acc" ? "ece" : comparison.metric;
  if (!metricIndex.has(metric)) return "Choose a metric other than accuracy.";
  const found = currentEntries();
  if (found.length === 0) return NOTHING;
  const point = (entry) => ({ x: measured(entry, "acc").value, y: measured(entry, metric).value });
  const side = (entry) => {
    if (doc.pairs.some((pair) => pair.base === entry.model)) return 0;
    return doc.pairs.some((pair) => pair.aligned === entry.model) ? 1 : 2;
  };
  const traces = [["base", "--base", "circle"], ["aligned", "--aligned", "diamond"], [doc.pairs.length ? "other" : "model", "--series-3", "square"]]
    .map(([title, tone, symbol], kind) => {
      const own = found.filter((entry) => side(entry) === kind);
      return {
        x: own.map((e) => point(e).x),
        y: own.map((e) => point(e).y),
        mode: "markers",
        marker: { color: colour(tone), size: 9, symbol },
        name: title,
        text: own.map((e) => `${plotText(modelNames[e.model])}<br>acc ${fixed(point(e).x)}, ${metric} ${fixed(point(e).y)}`),
        hovertemplate: "%{text}<extra></extra>",
      };
    })
    .filter((trace) => trace.x.length > 0);
  const arrows = doc.pairs.flatMap(({ base, aligned }) => {
    const from = found.find((e) => e.model === base);
    const to = found.find((e) => e.model === aligned);
    if (!from || !to) return [];
    return {
      x: point(to).x, y: point(to).y, ax: point(from).x, ay: point(from).y,
      xref: "x", yref: "y", axref: "x", ayref: "y",
      showarrow: true, arrowhead: 2, arrowsize: 1.1, arrowwidth: 1.2, arrowcolor: colour("--muted"),
      standoff: 5, startstandoff: 5, text: "",
    };
  });
  return {
    traces,
    height: 420,
    layout: { xaxis: axis("accuracy"), yaxis: axis(metric), annotations: arrows },
    table: plainTable(
      `Accuracy and ${metric}`,
      ["model", "acc", metric],
      found.map((e) => [name(modelNames[e.model]), fixed(point(e).x), fixed(point(e).y)]),
    ),
  };
}

const MOST_CURVES = 60;

function compareRisk() {
  const found = currentEntries();
  if (found.length === 0) return NOTHING;
  const isAligned = (entry) => doc.pairs.some((pair) => pair.aligned === entry.model);
  const few = found.length <= 6;
  const sides = found.slice(0, MOST_CURVES).map((entry, i) => ({
    entry,
    label: modelNames[entry.model],
    colour: few ? colour(`--series-${i + 1}`) : colour(isAligned(entry) ? "--aligned" : "--base"),
    dash: isAligned(entry) ? "dash" : "solid",
    opacity: few ? 1 : 0.6,
    quiet: !few,
  }));
  const about = few ? "" : doc.pairs.length ? "Solid: base; dashed: aligned. " : "";
  const cut = found.length > MOST_CURVES ? `The first ${MOST_CURVES} of ${found.length} are drawn: choose a family.` : "";
  return riskChart(sides, about + cut);
}

/** Risk–coverage curves of {entry, label, colour, dash}. */
async function riskChart(sides, note = "") {
  const at = [0.2, 0.5, 0.8, 1];
  const rows = [];
  const traces = [];
  for (const side of sides) {
    const risk = await riskOf(side.entry);
    const label = plotText(side.label);
    traces.push({
      x: doc.coverages,
      y: risk,
      mode: "lines",
      line: { color: side.colour, width: 1.8, dash: side.dash ?? "solid" },
      opacity: side.opacity ?? 1,
      name: label,
      hovertemplate: `${label.replace(/%\{/g, "% {")}<br>coverage %{x:.0%}: risk %{y:.3f}<extra></extra>`,
      showlegend: !side.quiet,
    });
    rows.push([name(side.label), ...at.map((c) => fixed(risk[doc.coverages.findIndex((x) => Math.abs(x - c) < 1e-9)]))]);
  }
  return {
    traces,
    height: 420,
    layout: {
      xaxis: axis("coverage", { range: [0, 1.01], tickformat: ".0%" }),
      yaxis: axis("risk", { rangemode: "tozero" }),
    },
    note: note ? h("p", {}, note) : null,
    table: plainTable("Risk at coverage", ["", ...at.map((c) => `${c * 100} %`)], rows),
  };
}

function trajectoryChart() {
  const chains = doc.chains.filter((c) => !comparison.family || c.family === comparison.family);
  if (chains.length === 0) return "No chain of stages or checkpoints: name one with --chain chain.csv, or report a sweep with stages or steps.";
  const rows = [];
  const stages = [];
  const traces = chains.flatMap((chain, k) => {
    const points = chain.steps
      .map((step) => ({
        ...step,
        entry: entries.find((e) => e.model === step.model && e.task === comparison.task && e.method === comparison.method),
      }))
      .filter((p) => p.entry)
      .map((p) => ({ ...p, m: measured(p.entry, comparison.metric) }));
    if (points.length === 0) return [];
    stages.push(points);
    for (const p of points) {
      rows.push([name(chain.family), name(p.stage), name(modelNames[p.model]), fixed(p.m.value), interval(p.m.low, p.m.high)]);
    }
    const tone = colour(`--series-${(k % 6) + 1}`);
    return {
      x: points.map((p) => p.position),
      y: points.map((p) => p.m.value),
      error_y: {
        type: "data",
        symmetric: false,
        array: points.map((p) => p.m.high - p.m.value),
        arrayminus: points.map((p) => p.m.value - p.m.low),
        color: tone,
        thickness: 1.2,
        width: 4,
      },
      mode: "lines+markers",
      line: { color: tone, width: 2 },
      marker: { size: 8, color: tone },
      name: plotText(chain.family),
      text: points.map((p) => `${plotText(p.stage)}: ${fixed(p.m.value)} ${interval(p.m.low, p.m.high)}`),
      hovertemplate: "%{text}<extra></extra>",
      showlegend: chains.length > 1,
    };
  });
  if (traces.length === 0) return NOTHING;
  // Steps are numbers; stages have names, the same places on the axis in every family.
  const named = stages.flat().some((p) => Number.isNaN(Number(p.stage)));
  const ticks = new Map(stages.flat().map((p) => [p.position, p.stage]));
  return {
    traces,
    height: 380,
    layout: {
      xaxis: named
        ? axis("stage", { tickvals: [...ticks.keys()], ticktext: [...ticks.values()].map((s) => plotText(s, 18)), showgrid: false })
        : axis("step"),
      yaxis: axis(comparison.metric),
    },
    table: plainTable("Values along the chain", ["family", "stage", "model", comparison.metric, "95 % interval"], rows),
  };
}
