// Charts of models: accuracy against calibration, risk and coverage, trajectories.

function arrowChart() {
  if (!metricIndex.has("acc")) return "Accuracy is not among this page's metrics.";
  const isOfRuns = comparison.metric !== "acc" && !doc.metrics[metricIndex.get(comparison.metric)].of_changes;
  const metric = isOfRuns ? comparison.metric : "ece";
  if (!metricIndex.has(metric)) return "Choose a metric other than accuracy.";
  const found = currentEntries().filter((entry) => !Number.isNaN(measured(entry, metric).value));
  if (found.length === 0) return NOTHING;
  const point = (entry) => ({ x: measured(entry, "acc").value, y: measured(entry, metric).value });
  const labels = plotNames(entryLabels(found), 28);
  const labelOf = new Map(found.map((entry, i) => [entry, labels[i]]));
  const written = found.length <= MOST_WRITTEN;
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
        mode: written ? "markers+text" : "markers",
        marker: { color: colour(tone), size: 9, symbol },
        name: title,
        text: own.map((e) => (written ? labelOf.get(e) : "")),
        textposition: own.map((e) => (kind === 1 ? "top center" : "bottom center")),
        textfont: { size: 10 },
        cliponaxis: false,
        customdata: own.map((e) => ({ entry: e, told: `${labelOf.get(e)}<br>acc ${fixed(point(e).x)}, ${metric} ${fixed(point(e).y)}` })),
        hovertemplate: "%{customdata.told}<extra></extra>",
      };
    })
    .filter((trace) => trace.x.length > 0);
  const arrows = comparedSides().map(([from, to]) => ({
    x: point(to).x, y: point(to).y, ax: point(from).x, ay: point(from).y,
    xref: "x", yref: "y", axref: "x", ayref: "y",
    showarrow: true, arrowhead: 2, arrowsize: 1.1, arrowwidth: 1.2, arrowcolor: colour("--muted"),
    standoff: 5, startstandoff: 5, text: "",
  }));
  return {
    traces,
    height: 440,
    layout: { xaxis: axis("accuracy"), yaxis: axis(metric), annotations: arrows },
    open: ({ customdata }) => addressOfEntry(customdata.entry),
    note: written ? null : h("p", { class: "muted" }, `More than ${MOST_WRITTEN} runs: their names show on pointing, and in the table; a family can be chosen above.`),
    table: {
      columns: ["model", "acc", metric],
      rows: found.map((e, i) => [{ text: entryLabels(found)[i], href: addressOfEntry(e) }, fixed(point(e).x), fixed(point(e).y)]),
    },
  };
}

const MOST_WRITTEN = 16; // runs whose names have room beside their marks

/** The two runs of each change that is chosen. */
function comparedSides() {
  const found = new Map();
  for (const { sides, pair, task, method } of changes) {
    if (task === comparison.task && method === comparison.method && (!comparison.family || doc.pairs[pair].family === comparison.family)) {
      found.set(`${sides[0].i} ${sides[1].i}`, sides);
    }
  }
  return [...found.values()].filter((sides) => sides.every((e) => inFamily(e.model)));
}

const MOST_CURVES = 60;

function compareRisk() {
  const found = currentEntries();
  if (found.length === 0) return NOTHING;
  const isAligned = (entry) => doc.pairs.some((pair) => pair.aligned === entry.model);
  const few = found.length <= 6;
  const labels = entryLabels(found);
  const sides = found.slice(0, MOST_CURVES).map((entry, i) => ({
    entry,
    label: labels[i],
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
    const label = plotText(side.label, 60);
    traces.push({
      x: doc.coverages,
      y: risk,
      mode: "lines",
      line: { color: side.colour, width: 1.8, dash: side.dash ?? "solid" },
      opacity: side.opacity ?? 1,
      name: label,
      customdata: doc.coverages.map(() => side.entry.i),
      hovertemplate: `${label.replace(/%\{/g, "% {")}<br>coverage %{x:.0%}: risk %{y:.3f}<extra></extra>`,
      showlegend: !side.quiet,
    });
    rows.push([{ text: side.label, href: addressOfEntry(side.entry) }, ...at.map((c) => fixed(risk[doc.coverages.findIndex((x) => Math.abs(x - c) < 1e-9)]))]);
  }
  return {
    traces,
    height: 420,
    layout: {
      xaxis: axis("coverage", { range: [0, 1.01], tickformat: ".0%" }),
      yaxis: axis("risk", { rangemode: "tozero" }),
    },
    note: note ? h("p", {}, note) : null,
    open: ({ customdata }) => addressOfEntry(entries[customdata]),
    table: { columns: ["run", ...at.map((c) => `${c * 100} %`)], rows },
  };
}

function trajectoryChart() {
  const chains = doc.chains.filter((c) => !comparison.family || c.family === comparison.family);
  if (doc.chains.length === 0) return ABSENT;
  if (doc.metrics[metricIndex.get(comparison.metric)].of_changes) return "This metric is of changes alone: choose another for values along the stages.";
  if (chains.length === 0) return "No chain of this family.";
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
      rows.push([{ text: chain.family }, { text: p.stage }, { text: modelNames[p.model], href: addressOfEntry(p.entry) }, fixed(p.m.value), interval(p.m.low, p.m.high)]);
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
      customdata: points.map((p) => p.entry.i),
      text: points.map((p) => `${plotText(chain.family)}, ${plotText(p.stage)}: ${fixed(p.m.value)} ${interval(p.m.low, p.m.high)}`),
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
    open: ({ customdata }) => addressOfEntry(entries[customdata]),
    table: { columns: ["family", "stage", "model", comparison.metric, "95 % interval"], rows },
  };
}
