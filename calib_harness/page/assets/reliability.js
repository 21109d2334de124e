// Reliability diagrams, drawn on demand from the binned data the page carries.

const RULES = { uniform: "uniform", equal_mass: "equal mass", adaptive: "adaptive" };

function binningName([bins, rule]) {
  return `${bins} bins, ${RULES[rule] ?? rule}`;
}

function mainBinning() {
  const { n_bins: bins, binning } = doc.options;
  return doc.binnings.findIndex(([m, rule]) => m === bins && rule === binning);
}

/**
 * Chart of one or two entries. `sides` are {entry, label, colour}; `position` is a choice
 * position, or null for the top label.
 */
async function reliabilityChart(sides, binning, position) {
  const traces = [
    {
      x: [0, 1],
      y: [0, 1],
      mode: "lines",
      line: { color: colour("--muted"), dash: "dot", width: 1 },
      hoverinfo: "skip",
      showlegend: false,
    },
  ];
  const rows = [];
  const facts = [];
  for (const [i, side] of sides.entries()) {
    const diagram = await diagramOf(side.entry, binning, position);
    if (diagram === null) return "These bins were not kept for choice positions: choose others.";
    if (diagram.bins.length === 0) continue;
    const histogram = await diagramOf(side.entry, histogramBinning(binning, position), position);
    traces.push(...pointTraces(side, diagram.bins, i, sides.length));
    traces.push(histogramTrace(side, (histogram ?? diagram).bins, binning[0], sides.length));
    facts.push(sideFacts(side, diagram, binning, position));
    for (const bin of diagram.bins) {
      rows.push([
        { text: side.label, href: position === null && hasQuestions(side.entry) ? addressOfBin(side.entry, bin) : null },
        String(bin.size),
        fixed(bin.confidence),
        fixed(bin.accuracy),
        interval(bin.low, bin.high),
        interval(bin.nullLow, bin.nullHigh),
      ]);
    }
  }
  if (rows.length === 0) return "No question of this run can be used.";
  const pick = ({ customdata }) => (customdata ? addressOfBin(customdata.entry, customdata.bin) : null);
  const what = position === null ? "confidence" : `probability of choice ${position + 1}`;
  const outcome = position === null ? "accuracy" : `share of gold = choice ${position + 1}`;
  return {
    traces,
    height: 480,
    layout: {
      xaxis: axis(what, { range: [0, 1], anchor: "y2" }),
      yaxis: axis(outcome, { range: [0, 1.02], domain: [0.3, 1] }),
      yaxis2: axis("n per bin", { domain: [0, 0.22], rangemode: "tozero", nticks: 4 }),
      barmode: "overlay",
    },
    note: h("div", { class: "facts" }, facts),
    open: position === null && sides.some((side) => hasQuestions(side.entry)) ? pick : undefined,
    table: { columns: ["run", "n", `mean ${what}`, outcome, "95 % interval", "if calibrated"], rows },
  };
}

/** Uniform bins of the same number: a histogram over bins of equal mass would be flat. */
function histogramBinning([bins], position) {
  const kept = position === null ? doc.binnings : doc.class_binnings;
  return kept.find((other) => sameBinning(other, [bins, "uniform"])) ?? kept[0];
}

/** The questions of a bin of an entry's diagram. */
function addressOfBin(entry, { from, to }) {
  return addressOf("questions", { ...entryKey(entry), from: String(from), to: String(to), order: "wrong" });
}

const LOOKS = [["--base", "circle"], ["--aligned", "diamond"], ["--series-3", "square"], ["--series-4", "triangle-up"], ["--series-5", "cross"], ["--series-6", "x"]];

/** Consistency bars, and the points with their exact intervals: the more questions, the bolder. */
function pointTraces(side, bins, place, count) {
  const label = plotText(side.label, 60);
  const tone = colour(side.colour);
  const x = bins.map((bin) => bin.confidence);
  const bars = (key, low, high) => ({
    type: "data",
    symmetric: false,
    array: bins.map((bin) => bin[high] - bin[key]),
    arrayminus: bins.map((bin) => bin[key] - bin[low]),
    color: tone,
  });
  const most = Math.max(...bins.map((bin) => bin.size));
  const scale = (bin) => Math.sqrt(bin.size / most);
  return [
    {
      x,
      y: bins.map((bin) => bin.nullLow),
      error_y: { ...bars("nullLow", "nullLow", "nullHigh"), thickness: count > 3 ? 4 : 10, width: 0 },
      mode: "markers",
      marker: { size: 0.1, color: tone },
      opacity: 0.25,
      hoverinfo: "skip",
      showlegend: false,
    },
    {
      x,
      y: bins.map((bin) => bin.accuracy),
      error_y: { ...bars("accuracy", "low", "high"), thickness: 1, width: 2 },
      mode: "lines+markers",
      line: { color: tone, width: 1, dash: "dot" },
      marker: {
        color: bins.map((bin) => (bin.size < FEW ? colour("--panel") : tone)),
        line: { color: tone, width: 1.6 },
        size: bins.map((bin) => 4 + 11 * scale(bin)),
        symbol: LOOKS[place % LOOKS.length][1],
        opacity: 1,
      },
      name: label,
      cliponaxis: false,
      customdata: bins.map((bin) => ({ entry: side.entry, bin })),
      text: bins.map(
        (bin) =>
          `${label}<br>n = ${bin.size}, mean ${fixed(bin.confidence)}, observed ${fixed(bin.accuracy)}` +
          `<br>95 % ${interval(bin.low, bin.high)}<br>if calibrated ${interval(bin.nullLow, bin.nullHigh)}`,
      ),
      hovertemplate: "%{text}<extra></extra>",
      showlegend: count > 1,
    },
  ];
}

const FEW = 5; // questions of a bin below which its point is hollow

function histogramTrace(side, bins, nBins, count) {
  return {
    x: bins.map((bin) => (Math.round(bin.from * nBins) + 0.5) / nBins),
    y: bins.map((bin) => bin.size),
    width: 1 / nBins,
    type: "bar",
    yaxis: "y2",
    marker: { color: colour(side.colour), opacity: count > 1 ? 0.5 : 0.75 },
    text: bins.map((bin) => `${plotText(side.label)}<br>n = ${bin.size}`),
    textposition: "none",
    hovertemplate: "%{text}<extra></extra>",
    showlegend: false,
  };
}

/** ECE with interval and calibrated null, where these were computed. */
function sideFacts(side, diagram, binning, position) {
  const n = diagram.bins.reduce((sum, bin) => sum + bin.size, 0);
  const isMain = position === null && sameBinning(binning, doc.binnings[mainBinning()]);
  const ece = isMain && metricIndex.has("ece") ? measured(side.entry, "ece") : diagram.ece;
  const nil = isMain && metricIndex.has("ece_null") ? measured(side.entry, "ece_null") : diagram.null;
  const parts = [h("strong", {}, cutName(side.label)), ` n = ${n.toLocaleString("en")}. `];
  parts.push(`${position === null ? "ECE" : "Calibration error of this position"} ${fixed(ece.value)}`);
  if (!Number.isNaN(ece.stderr)) parts.push(` ±${fixed(ece.stderr)}, 95 % ${interval(ece.low, ece.high)}`);
  if (!Number.isNaN(nil.value)) {
    parts.push(`; a calibrated model would show ${fixed(nil.value)} ${interval(nil.low, nil.high)}`);
  } else if (!isMain) {
    parts.push(`; interval and null are computed for the top choice and ${binningName(doc.binnings[mainBinning()])}`);
  }
  const words = isMain && asIfCalibrated(side.entry) ? " It cannot be told from that of a calibrated model." : "";
  return h("p", {}, parts, ".", words);
}

/** Chart of the curves without bins, of one or several entries: isotonic, and thinner smooth ones. */
async function curveChart(sides) {
  const traces = [
    { x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("--muted"), dash: "dot", width: 1 }, hoverinfo: "skip", showlegend: false },
  ];
  const [rows, facts] = [[], []];
  let bands = false;
  for (const side of sides) {
    const [curve, smooth] = [await curveOf(side.entry), await smoothOf(side.entry)];
    if (curve === null) continue;
    const tone = colour(side.colour);
    const label = plotText(side.label, 60);
    if (curve.low.some((v) => !Number.isNaN(v))) {
      bands = true;
      const edge = (y, fill) => ({ x: curve.x, y, mode: "lines", line: { width: 0, color: tone }, fill, fillcolor: `${tone}30`, hoverinfo: "skip", showlegend: false });
      traces.push(edge(curve.low, "none"), edge(curve.high, "tonexty"));
    }
    const line = (name, { x, y }, width, shown) => ({ x, y, mode: "lines", line: { color: tone, width }, name: label, showlegend: shown, hovertemplate: `${label.replace(/%\{/g, "% {")}, ${name}<br>confidence %{x:.3f}: accuracy %{y:.3f}<extra></extra>` });
    traces.push(line("isotonic", curve, 2, sides.length > 1));
    if (smooth !== null) traces.push(line("smooth", smooth, 1, false));
    const width = smooth === null ? null : ` The thin curve is the smooth one behind smECE, ${fixed(smooth.width)}, which is its width.`;
    facts.push(h("p", {}, h("strong", {}, cutName(side.label)), ` Brier score of the top choice ${fixed(curve.mcb - curve.dsc + curve.unc)} = miscalibration ${fixed(curve.mcb)} − discrimination ${fixed(curve.dsc)} + uncertainty ${fixed(curve.unc)}.`, width));
    curve.x.forEach((x, i) => rows.push([{ text: side.label }, fixed(x), fixed(curve.y[i]), interval(curve.low[i], curve.high[i])]));
  }
  if (rows.length === 0) return "No question of this run can be used.";
  return {
    traces,
    height: 420,
    layout: { xaxis: axis("confidence", { range: [0, 1] }), yaxis: axis("accuracy", { range: [0, 1.02] }) },
    note: h("div", { class: "facts" }, facts, bands ? null : h("p", {}, "This page is large: the band of a calibrated model and the smooth curve were left out.")),
    table: { columns: ["run", "confidence", "accuracy", "if calibrated"], rows },
  };
}
