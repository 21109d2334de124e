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
        name(side.label),
        String(bin.size),
        fixed(bin.confidence),
        fixed(bin.accuracy),
        interval(bin.low, bin.high),
        interval(bin.nullLow, bin.nullHigh),
      ]);
    }
  }
  if (rows.length === 0) return "No question of this run can be used.";
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
    table: plainTable(
      "Binned data",
      ["", "n", `mean ${what}`, outcome, "95 % interval", "if calibrated"],
      rows,
    ),
  };
}

/** Uniform bins of the same number: a histogram over bins of equal mass would be flat. */
function histogramBinning([bins], position) {
  const kept = position === null ? doc.binnings : doc.class_binnings;
  return kept.find((other) => sameBinning(other, [bins, "uniform"])) ?? kept[0];
}

/** Consistency bars, and the points with their exact intervals. */
function pointTraces(side, bins, place, count) {
  const label = plotText(side.label);
  const tone = colour(side.colour);
  const x = bins.map((bin) => bin.confidence);
  const bars = (key, low, high) => ({
    type: "data",
    symmetric: false,
    array: bins.map((bin) => bin[high] - bin[key]),
    arrayminus: bins.map((bin) => bin[key] - bin[low]),
    color: tone,
  });
  return [
    {
      x,
      y: bins.map((bin) => bin.nullLow),
      error_y: { ...bars("nullLow", "nullLow", "nullHigh"), thickness: 10, width: 0 },
      mode: "markers",
      marker: { size: 0.1, color: tone },
      opacity: 0.25,
      hoverinfo: "skip",
      showlegend: false,
    },
    {
      x,
      y: bins.map((bin) => bin.accuracy),
      error_y: { ...bars("accuracy", "low", "high"), thickness: 1.2, width: 3 },
      mode: "lines+markers",
      line: { color: tone, width: 1.2 },
      marker: { color: tone, size: 8, symbol: place ? "diamond" : "circle" },
      name: label,
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
  const parts = [h("strong", {}, name(side.label, { class: "cut" })), ` n = ${n.toLocaleString("en")}. `];
  parts.push(`${position === null ? "ECE" : "Calibration error of this position"} ${fixed(ece.value)}`);
  if (!Number.isNaN(ece.stderr)) parts.push(` ±${fixed(ece.stderr)}, 95 % ${interval(ece.low, ece.high)}`);
  if (!Number.isNaN(nil.value)) {
    parts.push(`; a calibrated model would show ${fixed(nil.value)} ${interval(nil.low, nil.high)}`);
  } else if (!isMain) {
    parts.push(`; interval and null are computed for the top choice and ${binningName(doc.binnings[mainBinning()])}`);
  }
  return h("p", {}, parts, ".");
}
