// Changes between any two runs, from the resamples that the page carries: the arithmetic of
// calib_harness.core, on the same numbers.

let resampleColumns = null; // unpacked when two runs are first compared

const doubts = {
  none: "This page carries no resamples (--resamples 0), so nothing can be said about the error of these differences.",
  many: "This page has too many runs to carry their resamples, so nothing can be said about the error of these differences: make a page of fewer (--tasks, --methods), or put the two into --pairs.",
  task: "The two runs are of different tasks: their values can be read side by side, but differences would mean nothing.",
  questions: "The two runs did not answer exactly the same questions, so the page cannot resample them together: put the two into --pairs, which compares them on the questions that both share.",
  unusable: "Some questions of one of the runs cannot be used, so the page cannot resample the two together: put the two into --pairs, which leaves such questions out on both sides.",
};

/** Why no change between two runs can be computed here; null if it can. */
function doubtOf(first, second) {
  if (first.task !== second.task) return doubts.task;
  if (first.questions !== second.questions) return doubts.questions;
  if (first.unusable || second.unusable) return doubts.unusable;
  if (doc.resamples === "none") return doubts.none;
  if (doc.resamples === "many") return doubts.many;
  return null;
}

/** The deviations of a metric of an entry, one array for each world; and its least and largest value. */
async function drawsOf(entry, metric) {
  resampleColumns ??= unpack("resamples");
  const c = await resampleColumns;
  const names = doc.resampled;
  const cell = entry.i * names.length + names.indexOf(metric);
  const starts = prefixSums("draw_worlds", c.draw_worlds);
  const count = doc.options.n_resamples;
  const [low, step] = [c.draw_low[cell], c.draw_step[cell]];
  const worlds = [];
  for (let world = starts[cell]; world < starts[cell + 1]; world += 1) {
    worlds.push(Float64Array.from(c.draw_values.subarray(world * count, (world + 1) * count), (v) => (v === 65535 ? NaN : low + step * v)));
  }
  return { worlds, step, span: c.draw_most[cell] - c.draw_least[cell] };
}

/** Quantile of sorted numbers, between neighbours linearly, as numpy's. */
function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const next = sorted[Math.min(below + 1, sorted.length - 1)];
  return sorted[below] + (at - below) * (next - sorted[below]);
}

/** Change from the first run to the second with error, interval and p; all of it NaN if unknown. */
async function changeBetween(first, second, metric) {
  const [a, b] = [measured(first, metric).value, measured(second, metric).value];
  const unknown = { metric, base: a, aligned: b, change: b - a, stderr: NaN, low: NaN, high: NaN, p: NaN };
  if (doubtOf(first, second) !== null || !doc.resampled.includes(metric)) return unknown;
  const [one, two] = [await drawsOf(first, metric), await drawsOf(second, metric)];
  const same = first === second;
  // Resamples are kept in steps: those as large as the change, as often of counts, must stay so.
  const slack = one.step + two.step + 1e-7;
  const change = b - a;
  let [low, high, p, stderr] = [change, change, change === 0 ? 1 : 0, NaN];
  for (const [i, base] of one.worlds.entries()) {
    for (const [j, aligned] of two.worlds.entries()) {
      if (same && i !== j) continue;
      const deviations = Float64Array.from(aligned, (v, k) => v - base[k]).filter(Number.isFinite).sort();
      if (deviations.length < 2) return unknown;
      const [least, most] = [-one.span, one.span];
      const clip = (v) => Math.min(Math.max(v, least), most);
      low = Math.min(low, clip(change - quantile(deviations, 0.975)));
      high = Math.max(high, clip(change - quantile(deviations, 0.025)));
      if (i === 0 && j === 0) stderr = deviation(deviations);
      const crossing = deviations.reduce((sum, v) => sum + (change > 0 ? v >= change - slack : v <= change + slack), 0);
      if (change !== 0) p = Math.max(p, (2 * (1 + crossing)) / (1 + deviations.length));
    }
  }
  return { ...unknown, stderr, low, high, p: Math.min(p, 1) };
}

function deviation(values) {
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  return Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1));
}
