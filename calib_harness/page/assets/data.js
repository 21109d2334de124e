// What the page carries: a document of names, and columns of numbers packed beside it.

const doc = JSON.parse(document.getElementById("document").textContent);

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  int32: Int32Array,
};

/** Unpack a blob of columns into typed arrays by name. */
async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (sign) =>
    sign.charCodeAt(0),
  );
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const blob = await new Response(stream).arrayBuffer();
  const columns = {};
  for (const [column, { type, at, length }] of Object.entries(doc.columns[id])) {
    columns[column] = new ARRAYS[type](blob, at, length);
  }
  return columns;
}

let numbers = {}; // metrics and changes, there before anything is shown
let diagramColumns = null; // binned data, unpacked when the first diagram is opened

function diagrams() {
  diagramColumns ??= unpack("diagrams");
  return diagramColumns;
}

const metricIndex = new Map(doc.metrics.map((metric, i) => [metric.name, i]));
const entries = doc.entries.model.map((model, i) => ({
  i,
  model,
  task: doc.entries.task[i],
  method: doc.entries.method[i],
  setting: doc.entries.setting[i],
  n: doc.entries.n[i],
  unusable: doc.entries.unusable[i],
}));

/** Names of models as they are shown: paths lose the folders that tell nothing apart. */
const modelNames = (() => {
  const labels = doc.models.map((model) => model.label);
  const isPath = (label) => /^(\/|\.{1,2}\/|~)/.test(label);
  const tail = (label, parts) => label.split("/").filter(Boolean).slice(-parts).join("/");
  return labels.map((label) => {
    if (!isPath(label)) return label;
    for (let parts = 1; parts < 6; parts += 1) {
      const short = tail(label, parts);
      if (labels.filter((other) => tail(other, parts) === short).length === 1) return short;
    }
    return label;
  });
})();

/** One metric of one entry. */
function measured(entry, metric) {
  const at = metricIndex.get(metric) * entries.length + entry.i;
  return {
    value: numbers.value[at],
    stderr: numbers.stderr[at],
    low: numbers.low[at],
    high: numbers.high[at],
  };
}

/** Changes from base to aligned, one object per pair × task × method × metric. */
function allChanges() {
  const c = doc.changes;
  if (!c.n_shot) return [];
  const settingOf = settingsOfChanges(c);
  return c.n_shot.map((nShot, i) => ({
    pair: numbers.change_pair[i],
    task: numbers.change_task[i],
    method: numbers.change_method[i],
    setting: settingOf(nShot, c.chat_template[i]),
    metric: doc.metrics[numbers.change_metric[i]].name,
    n: numbers.change_n[i],
    rank: c.rank[i],
    harm: c.harm[i],
    clear: c.clear[i] === 1,
    base: numbers.change_base_value[i],
    aligned: numbers.change_aligned_value[i],
    change: numbers.change_change[i],
    stderr: numbers.change_stderr[i],
    low: numbers.change_low[i],
    high: numbers.change_high[i],
    p: numbers.change_p_value[i],
    pHolm: numbers.change_p_holm[i],
  }));
}

let changes = [];

/** Whether a change can be told from one that does no harm and no good, as `compare` says. */
function isClear(change) {
  return change.clear;
}

function isBestAtZero(metric) {
  return doc.metrics[metricIndex.get(metric)].direction === "zero";
}

/** What is true of changes that are not clear. */
function unclearWords(metric) {
  const words = "interval contains zero";
  return isBestAtZero(metric) ? `${words}, or as much on its other side` : words;
}

/** A function that names a change's prompt settings, as far as they tell changes apart. */
function settingsOfChanges({ n_shot: allShots, chat_template: allChats }) {
  const varies = (values) => new Set(values).size > 1;
  const [byShots, byChat] = [varies(allShots), varies(allChats)];
  return (shots, chat) => {
    const parts = [];
    if (byShots && Number.isFinite(shots)) parts.push(`${shots}-shot`);
    if (byChat && chat !== null && chat !== undefined) parts.push(chat ? "chat template" : "no chat template");
    return parts.join(", ");
  };
}

function pairName(pair) {
  const { base, aligned } = doc.pairs[pair];
  return `${modelNames[base]} → ${modelNames[aligned]}`;
}

function settingName(setting) {
  const { n_shot: shots, chat_template: chat, settings } = doc.settings[setting];
  const parts = [];
  if (shots !== null) parts.push(`${shots}-shot`);
  if (chat) parts.push("chat template");
  if (settings) parts.push(settings);
  return parts.join(", ");
}

const diagramStarts = {};

/** Where the bins of each diagram start, from how many each has. */
function startsOf(kind, columns) {
  if (!diagramStarts[kind]) {
    const counts = columns[`${kind}_bins`];
    const starts = new Uint32Array(counts.length + 1);
    counts.forEach((count, i) => (starts[i + 1] = starts[i] + count));
    diagramStarts[kind] = starts;
  }
  return diagramStarts[kind];
}

const intervalKey = (size, hits) => size * 2 ** 26 + hits;
let intervalPlaces = null;

/** Where the interval of each (n, hits) lies: they come sorted, once each. */
function intervalsOf(columns) {
  if (!intervalPlaces) {
    const keys = ["top", "class"].flatMap((kind) =>
      Array.from(columns[`${kind}_size`], (size, i) => intervalKey(size, columns[`${kind}_hits`][i])),
    );
    const sorted = Float64Array.from(new Set(keys)).sort();
    intervalPlaces = new Map(Array.from(sorted, (key, place) => [key, place]));
  }
  return intervalPlaces;
}

function sameBinning(one, other) {
  return one[0] === other[0] && one[1] === other[1];
}

/**
 * Binned data of an entry's diagram, of the top choice or of one choice position: bins that have
 * entries, and the calibration error. Null if these bins were not kept for positions.
 */
async function diagramOf(entry, binning, position = null) {
  const columns = await diagrams();
  const kind = position === null ? "top" : "class";
  const kept = position === null ? doc.binnings : doc.class_binnings;
  const place = kept.findIndex((other) => sameBinning(other, binning));
  if (place < 0) return null;
  const number = position === null ? entry.i : classStart(entry.i) + position;
  const diagram = number * kept.length + place;
  const starts = startsOf(kind, columns);
  const share = (key, at) => columns[`${kind}_${key}`][at] / 65535;
  const bins = [];
  for (let at = starts[diagram]; at < starts[diagram + 1]; at += 1) {
    const size = columns[`${kind}_size`][at];
    const hits = columns[`${kind}_hits`][at];
    const known = intervalsOf(columns).get(intervalKey(size, hits));
    bins.push({
      size,
      accuracy: hits / size,
      confidence: share("confidence", at),
      low: columns.interval_low[known] / 65535,
      high: columns.interval_high[known] / 65535,
      nullLow: columns[`${kind}_null_low`][at] / size,
      nullHigh: columns[`${kind}_null_high`][at] / size,
      from: share("low", at),
    });
  }
  const error = (key) => columns[`${kind}_${key}`][diagram];
  return {
    bins,
    ece: { value: error("ece_value"), stderr: error("ece_stderr"), low: error("ece_low"), high: error("ece_high") },
    null: { value: error("ece_null_mean"), low: error("ece_null_low"), high: error("ece_null_high") },
  };
}

function classStart(i) {
  let start = 0;
  for (let j = 0; j < i; j += 1) start += doc.n_classes[j];
  return start;
}

/** Error rate among the most confident answers, at each of doc.coverages. */
async function riskOf(entry) {
  const { risk } = await diagrams();
  const width = doc.coverages.length;
  const steps = Uint16Array.from(risk.subarray(entry.i * width, (entry.i + 1) * width));
  for (let i = 1; i < width; i += 1) steps[i] += steps[i - 1];
  return Array.from(steps, (value) =>
    value === 65535 ? NaN : value / 65534,
  );
}
