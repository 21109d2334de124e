// Charts of models: accuracy against calibration, risk and coverage, trajectories.

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
