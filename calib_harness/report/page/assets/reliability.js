// Reliability diagrams, drawn on demand from the binned data the page carries.

const RULES = { uniform: "uniform", equal_mass: "equal mass", adaptive: "adaptive" };

function binningName([bins, rule]) {
  return `${bins} bins, ${RULES[rule] ?? rule}`;
}

function mainBinning() {
  const { n_bins: bins, binning } = doc.options;
  return doc.binnings.findIndex(([m, rule]) => m === bins && rule === binning);
}

/** ECE of binned data: the very sum behind the metric. */
function eceOf(bins) {
  const n = bins.reduce((sum, bin) => sum + bin.size, 0);
  return bins.reduce((sum, bin) => sum + (bin.size / n) * Math.abs(bin.share - bin.mean), 0);
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
    const bins = await diagramOf(side.entry, binning, position);
    if (bins === null) return "These bins were not kept for choice positions: choose others.";
    if (bins.length === 0) continue;
    traces.push(...sideTraces(side, bins, binning, i, sides.length));
    facts.push(sideFacts(side, bins, binning, position));
    for (const bin of bins) {
      rows.push([
        name(side.label),
        String(bin.bin + 1),
        String(bin.size),
        fixed(bin.mean),
        fixed(bin.share),
        interval(bin.low ?? NaN, bin.high ?? NaN),
        interval(bin.nullLow ?? NaN, bin.nullHigh ?? NaN),
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
      xaxis: axis(what, { range: [0, 1], constrain: "domain" }),
      yaxis: axis(outcome, { range: [0, 1.02], domain: [0.3, 1] }),
      yaxis2: axis("n per bin", { domain: [0, 0.2], rangemode: "tozero", anchor: "x", nticks: 4 }),
      barmode: "overlay",
      legend: { orientation: "h", y: 1.08, x: 0 },
    },
    note: h("div", { class: "facts" }, facts),
    table: plainTable(
      "Binned data",
      ["", "bin", "n", `mean ${what}`, outcome, "95 % interval", "if calibrated"],
      rows,
    ),
  };
}

function sideTraces(side, bins, binning, place, count) {
  const label = plotText(side.label);
  const tone = colour(side.colour);
  const x = bins.map((bin) => bin.mean);
  const text = bins.map(
    (bin) =>
      `${label}<br>n = ${bin.size}, mean ${fixed(bin.mean)}, observed ${fixed(bin.share)}` +
      (bin.low === undefined ? "" : `<br>95 % ${interval(bin.low, bin.high)}`) +
      (bin.nullLow === undefined ? "" : `<br>if calibrated ${interval(bin.nullLow, bin.nullHigh)}`),
  );
  const width = binning[1] === "uniform" ? 1 / binning[0] : undefined;
  const centre = (bin) => (binning[1] === "uniform" ? (bin.bin + 0.5) / binning[0] : bin.mean);
  const traces = [];
  if (bins[0].nullLow !== undefined) {
    traces.push({
      x,
      y: bins.map((bin) => (bin.nullLow + bin.nullHigh) / 2),
      error_y: {
        type: "data",
        array: bins.map((bin) => (bin.nullHigh - bin.nullLow) / 2),
        color: tone,
        thickness: 9,
        width: 0,
      },
      mode: "markers",
      marker: { size: 0.1, color: tone },
      opacity: 0.22,
      hoverinfo: "skip",
      name: `${label}: if calibrated`,
      showlegend: false,
    });
  }
  traces.push(
    {
      x,
      y: bins.map((bin) => bin.share),
      error_y: bins[0].low === undefined ? undefined : {
        type: "data",
        symmetric: false,
        array: bins.map((bin) => bin.high - bin.share),
        arrayminus: bins.map((bin) => bin.share - bin.low),
        color: tone,
        thickness: 1.2,
        width: 3,
      },
      mode: "lines+markers",
      line: { color: tone, width: 1.2 },
      marker: { color: tone, size: 8, symbol: place ? "diamond" : "circle" },
      name: label,
      text,
      hovertemplate: "%{text}<extra></extra>",
      showlegend: count > 1,
    },
    {
      x: bins.map(centre),
      y: bins.map((bin) => bin.size),
      width,
      type: "bar",
      yaxis: "y2",
      marker: { color: tone, opacity: count > 1 ? 0.5 : 0.75 },
      text,
      textposition: "none",
      hovertemplate: "%{text}<extra></extra>",
      showlegend: false,
    },
  );
  return traces;
}

/** ECE with interval and calibrated null, for the bins they were computed with. */
function sideFacts(side, bins, binning, position) {
  const n = bins.reduce((sum, bin) => sum + bin.size, 0);
  const parts = [h("strong", {}, name(side.label)), ` n = ${n.toLocaleString("en")}. `];
  const isMain = doc.binnings.indexOf(binning) === mainBinning();
  if (position !== null) {
    parts.push(`Mean gap of this position ${fixed(eceOf(bins))}.`);
  } else if (isMain && metricIndex.has("ece")) {
    const ece = measured(side.entry, "ece");
    parts.push(`ECE ${fixed(ece.value)}`);
    if (!Number.isNaN(ece.stderr)) {
      parts.push(` ±${fixed(ece.stderr)}, 95 % ${interval(ece.low, ece.high)}`);
    }
    if (metricIndex.has("ece_null")) {
      const nil = measured(side.entry, "ece_null");
      parts.push(`; a calibrated model would show ${fixed(nil.value)} ${interval(nil.low, nil.high)}`);
    }
    parts.push(".");
  } else {
    parts.push(
      `ECE ${fixed(eceOf(bins))} with ${binningName(binning)}; interval and null are computed for ` +
        `${binningName(doc.binnings[mainBinning()])}.`,
    );
  }
  return h("p", {}, parts);
}
