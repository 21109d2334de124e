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
  run: doc.runs[doc.entries.run[i]],
  questions: doc.entries.questions[i], // the same number: the same questions
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
    sides: [entries[numbers.change_base_entry[i]], entries[numbers.change_aligned_entry[i]]],
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

function isBestAtZero(metric) {
  return doc.metrics[metricIndex.get(metric)].direction === "zero";
}

/** How far a change goes towards harm: below zero where it does good. */
function harmOf(change) {
  const size = isBestAtZero(change.metric) ? Math.abs(Math.abs(change.aligned) - Math.abs(change.base)) : Math.abs(change.change);
  return Number.isNaN(size) ? NaN : Math.sign(change.harm) * size;
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

/** Which entries there are of a model (or of all), a task and a method. */
const entriesBy = (() => {
  const found = new Map();
  for (const entry of entries) {
    for (const key of [`${entry.model} ${entry.task} ${entry.method}`, `* ${entry.task} *`, `${entry.model} * *`]) {
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(entry);
    }
  }
  return (model, task, method) => found.get(`${model} ${task} ${method}`) ?? [];
})();

/** Methods of a task, those of most models first. */
function methodsOf(task) {
  const count = new Map();
  for (const { method } of task === null ? entries : entriesBy("*", task, "*")) {
    count.set(method, (count.get(method) ?? 0) + 1);
  }
  return [...count].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([method]) => method);
}

/** What names an entry for good: only as much as tells it from others, and all of it text. */
function entryKey(entry) {
  const alike = entriesBy(entry.model, entry.task, entry.method);
  const key = { model: doc.models[entry.model].label, task: doc.tasks[entry.task], method: doc.methods[entry.method] };
  if (alike.length === 1) return key;
  const setting = settingName(entry.setting) || "none";
  key.setting = setting;
  const same = alike.filter((other) => (settingName(other.setting) || "none") === setting);
  if (same.length > 1) {
    const dated = same.filter((other) => other.run.date === entry.run.date);
    key.date = dated.length === 1 ? entry.run.date : `${entry.run.date} (${dated.indexOf(entry) + 1})`;
  }
  return key;
}

/** The entry with a key; undefined if there is none. */
function entryOf(key) {
  const [model, task, method] = [modelIndex.get(key.model), doc.tasks.indexOf(key.task), doc.methods.indexOf(key.method)];
  return entriesBy(model, task, method).find((entry) => {
    const own = entryKey(entry);
    return (own.setting ?? null) === (key.setting ?? own.setting ?? null) && (own.date ?? null) === (key.date ?? own.date ?? null);
  });
}

const modelIndex = new Map(doc.models.map((model, i) => [model.label, i]));

/** Names of entries that are shown together: the model's, and whatever else tells them apart. */
function entryLabels(list) {
  const parts = [
    (e) => modelNames[e.model],
    (e) => doc.tasks[e.task],
    (e) => doc.methods[e.method],
    (e) => settingName(e.setting) || "no settings known",
    (e) => e.run.date.slice(0, 16).replace("T", " "),
    (e) => e.run.source,
  ];
  let labels = list.map(parts[0]);
  for (const part of parts.slice(1)) {
    if (new Set(labels).size === labels.length) break;
    if (new Set(list.map(part)).size > 1) labels = labels.map((label, i) => `${label}, ${part(list[i])}`);
  }
  return labels;
}

const addressOfEntry = (entry) => addressOf("model", entryKey(entry));

/** The address of two runs side by side; the second's names carry a 2. */
function addressOfTwo(first, second) {
  const { model, method, setting, date } = entryKey(second);
  return addressOf("two", { ...entryKey(first), model2: model, method2: method, setting2: setting, date2: date });
}

const addressOfChange = (change) => addressOfTwo(...change.sides);

/** Stages in the order in which they follow each other, not by name. */
const stageRank = (() => {
  const known = ["pretrained", "base", "mid", "cpt", "sft", "instruct", "aligned", "dpo", "kto", "ppo", "rl", "rlhf", "rlvr", "chat"];
  const places = new Map();
  for (const { steps } of doc.chains) for (const { stage, position } of steps) if (!places.has(stage)) places.set(stage, position);
  for (const { stage, step } of doc.models) if (step !== null) places.set(stage, step);
  return (stage) => {
    if (places.has(stage)) return places.get(stage);
    const place = known.indexOf(String(stage).toLowerCase());
    return place < 0 ? Infinity : place;
  };
})();

function byStage(a, b) {
  const [first, second] = [stageRank(a), stageRank(b)];
  return first === second ? String(a).localeCompare(String(b)) : first - second;
}

/** Where the bins of each diagram start, from how many each has. */
function startsOf(kind, columns) {
  return prefixSums(`${kind}_bins`, columns[`${kind}_bins`]);
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
      to: at + 1 < starts[diagram + 1] ? share("low", at + 1) : 1,
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

/** The curve without bins of an entry, see `analysis/isotonic.py`; null if no question can be used. */
async function curveOf(entry) {
  const c = await diagrams();
  const at = prefixSums("curve_steps", c.curve_steps)[entry.i];
  const count = c.curve_steps[entry.i];
  if (count === 0) return null;
  const slice = (key) => Array.from(c[key].subarray(at, at + count), (v) => (v === 65535 && key !== "curve_at" ? NaN : v / 65534));
  const parts = Object.fromEntries(["mcb", "dsc", "unc"].map((key) => [key, c[`curve_${key}`][entry.i]]));
  return { x: slice("curve_at"), y: slice("curve_value"), low: slice("curve_low"), high: slice("curve_high"), ...parts };
}

/** The smooth curve behind an entry's smECE, and its width; null if the page carries none. */
async function smoothOf(entry) {
  const c = await diagrams();
  const count = c.smooth_steps[entry.i];
  if (count === 0) return null;
  const at = prefixSums("smooth_steps", c.smooth_steps)[entry.i];
  const y = Array.from(c.smooth_value.subarray(at, at + count), (v) => (v === 65535 ? NaN : v / 65534));
  return { x: y.map((_, i) => i / (count - 1)), y, width: c.smooth_width[entry.i] };
}

const sums = {};

/** Where the items of each entry start, from how many each has. */
function prefixSums(id, counts) {
  if (!sums[id]) {
    sums[id] = new Uint32Array(counts.length + 1);
    counts.forEach((count, i) => (sums[id][i + 1] = sums[id][i] + count));
  }
  return sums[id];
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
