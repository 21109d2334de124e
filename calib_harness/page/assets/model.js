// One model: where it stands, all its numbers, and the diagrams of the run that is chosen.

const modelView = { model: 0, entry: null };

views.model = {
  defaults: () => ({ model: doc.models[0].label, task: null, method: null, setting: null, date: null, bins: null, of: "", together: "all" }),
  show: showModel,
};

function showModel(chosen) {
  const model = placeOf(doc.models.map((m) => m.label), chosen.model, "model");
  const own = entriesBy(model, "*", "*");
  modelView.model = model;
  modelView.entry = entryChosen(chosen, own);
  const { label, family, stage, step } = doc.models[model];
  replace(document.getElementById("model-title"), cutName(modelNames[model]));
  const facts = [
    ["Name", label],
    ["Family", family],
    ["Stage", stage],
    ["Step", step === null ? "" : String(step)],
  ].filter(([, value]) => value !== "");
  const table = h("div", {});
  const cards = [reliabilityCard(chosen, own), curveCard(chosen), riskCard(chosen)];
  const target = document.getElementById("model-body");
  const controls = h("div", { class: "controls" });
  const focused = target.contains(document.activeElement) ? document.activeElement.closest("[data-control]")?.dataset.control : null;
  replace(
    target,
    controls,
    h("dl", { class: "short" }, facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, name(value))])),
    relatives(model),
    modelActions(),
    table,
    h("div", { class: "cards" }, cards),
  );
  replaceControls(controls, [
    choose("Model", named(doc.models.map((m) => m.label)), label, (to) => go(addressOf("model", { model: to, task: chosen.task, method: chosen.method }))),
  ]);
  const [rows, columns, note] = modelBoard(doc.metrics.filter((m) => !m.of_changes), own, "stderr");
  const plain = columns.filter((c) => c.field !== "name");
  const told = plain.some((c) => c.field === "task") ? plain : [nameColumn("Task", "task"), ...plain];
  const linked = told.map((c, i) => (i === 0 ? nameColumn(c.name, c.field, { href: (row) => row.href, maxWidth: 260 }) : c));
  makeTable(table, "Runs of this model", rows.map((row) => ({ ...row, chosen: row.entry === modelView.entry })), linked, { file: [label] });
  table.append(h("p", { class: "muted" }, note));
  for (const each of cards) each.draw();
  if (focused) [...target.querySelectorAll("[data-control]")].find((c) => c.dataset.control === focused)?.querySelector("select, input")?.focus({ preventScroll: true });
}

/** The entry that the address names, as far as it does. */
function entryChosen(chosen, own) {
  const wanted = ["task", "method", "setting", "date"].filter((key) => chosen[key]);
  const fits = (entry) => {
    const key = entryKey(entry);
    return wanted.every((each) => (key[each] ?? chosen[each]) === chosen[each]);
  };
  const found = own.find(fits);
  if (!found) missing("run of this model with", wanted.map((key) => chosen[key]).join(", "));
  return found ?? own[0];
}

/** Links to the other side of the model's pairs: the two beside each other, and the other alone. */
function relatives(model) {
  const links = doc.pairs
    .filter(({ base, aligned }) => base === model || aligned === model)
    .map(({ base, aligned }) => {
      const other = base === model ? aligned : base;
      const word = base === model ? "aligned: " : "base: ";
      const { task, method } = entryKey(modelView.entry);
      const href = addressOf("model", { model: doc.models[other].label, task, method });
      const both = partnersOf(modelView.entry).find((p) => p.entry.model === other);
      const sides = both && (both.isBase ? [modelView.entry, both.entry] : [both.entry, modelView.entry]);
      return h("span", {}, word, h("a", { href }, cutName(modelNames[other])), both && [" (", h("a", { href: addressOfTwo(...sides) }, "side by side"), ")"]);
    });
  return links.length > 0 && h("p", { class: "relatives" }, links);
}

function modelActions() {
  const { entry } = modelView;
  return h(
    "p",
    { class: "actions" },
    hasQuestions(entry) && h("a", { class: "button", href: addressOf("questions", { ...entryKey(entry), order: "wrong" }) }, "Questions of this run"),
    h("button", { type: "button", click: () => copyText(modelCard(modelView.model), "Model card") }, "Copy model card"),
  );
}

/** Markdown for a model's page: what was measured, with errors, and how. */
function modelCard(model) {
  const { label } = doc.models[model];
  const own = entriesBy(model, "*", "*");
  const { n_bins: bins, binning, n_resamples: resamples } = doc.options;
  const kept = doc.metrics.filter((m) => !m.of_changes);
  const table = toMarkdown({
    title: `Calibration of ${label}`,
    columns: ["task", "method", "settings", "n", ...kept.map((m) => m.name)],
    rows: own.map((e) => [doc.tasks[e.task], doc.methods[e.method], settingName(e.setting) || "–", String(e.n), ...kept.map((m) => spreadWords(measured(e, m.name), "interval"))]),
  });
  const versions = [...new Set(own.map((e) => e.run.packages.lm_eval).filter(Boolean))].join(", ");
  return (
    `## ${table}\nBrackets: 95 % intervals${resamples ? ` (bootstrap over questions, ${resamples} resamples)` : ""}. M = ${bins} bins, ${binning.replace("_", " ")}. ` +
    `ece_null: the ECE that a calibrated model with these confidences would show.${versions ? ` Scored with lm-eval ${versions}.` : ""} Made ${doc.made.date} with calib-harness ${doc.made.packages["calib-harness"]}.\n`
  );
}

/** Runs of the models that pair with an entry's: those it was compared with, else the same task and method. */
function partnersOf(entry) {
  const found = new Map();
  for (const { sides } of changesOf(entry)) {
    const isBase = sides[0] === entry;
    const other = isBase ? sides[1] : sides[0];
    found.set(other.i, { entry: other, isBase });
  }
  return [...found.values()];
}

const changesOf = (() => {
  let known = null;
  return (entry) => {
    if (!known) {
      known = new Map();
      for (const change of changes) {
        for (const side of change.sides) known.set(side.i, [...(known.get(side.i) ?? []), change]);
      }
    }
    return known.get(entry.i) ?? [];
  };
})();

const MOST_TOGETHER = 6;

/** The runs that the diagrams show: the chosen one, and those of its partners that are asked for. */
function sidesOf({ together }) {
  const { entry } = modelView;
  const all = partnersOf(entry);
  const wanted = together === "all" ? all.slice(0, MOST_TOGETHER - 1) : all.filter((p) => doc.models[p.entry.model].label === together);
  const bases = wanted.filter((p) => !p.isBase).map((p) => p.entry);
  const aligned = wanted.filter((p) => p.isBase).map((p) => p.entry);
  const list = [...bases, entry, ...aligned];
  const labels = entryLabels(list);
  const ofBase = bases.length === 0 || wanted.length === 0;
  return list.map((each, i) => ({ entry: each, label: labels[i], colour: LOOKS[ofBase || bases.length === 1 ? i : (i + 2) % LOOKS.length][0] }));
}

const runParts = () => Object.values(entryKey(modelView.entry));

/** The diagram of the run that its controls choose. */
function reliabilityCard(chosen, own) {
  const controls = h("div", { class: "controls inner" });
  const { entry } = modelView;
  const position = chosen.of === "" ? null : Math.min(Number(chosen.of), doc.n_classes[entry.i]) - 1;
  const kept = position === null ? doc.binnings : doc.class_binnings;
  const names = kept.map(binningName);
  const main = binningName(doc.binnings[Math.max(mainBinning(), 0)]);
  const binning = kept[placeOf(names, chosen.bins ?? main, "diagram with", 0)];
  const figure = card(
    "Reliability",
    "Accuracy against mean confidence per bin; the larger a point, the more questions, hollow below five. Thin bars: exact 95 % intervals (Clopper and Pearson); " +
      "broad bars: where a calibrated model with these confidences would be. Below: how many questions.",
    () => reliabilityChart(sidesOf(chosen), binning, position),
    { id: "reliability", file: runParts },
  );
  const positions = Array.from({ length: doc.n_classes[entry.i] }, (_, k) => [String(k + 1), `Choice ${k + 1}`]);
  const partners = partnersOf(entry);
  const runs = new Map(own.map((e) => [String(e.i), e]));
  replace(
    controls,
    choose("Run", own.map((e) => [e.i, entryName(e, own)]), entry.i, (i) => alter({ task: null, method: null, setting: null, date: null, ...entryKey(runs.get(i)) })),
    choose("Bins", named(names), binningName(binning), (bins) => alter({ bins })),
    choose("Of", [["", "Top choice"], ...positions], position === null ? "" : String(position + 1), (of) => alter({ of })),
    partners.length > 0 && choose("Together with", togetherOptions(partners), chosen.together, (together) => alter({ together })),
  );
  figure.querySelector("figcaption").after(controls);
  return figure;
}

function togetherOptions(partners) {
  const each = partners.map((p) => [doc.models[p.entry.model].label, modelNames[p.entry.model]]);
  const most = partners.length >= MOST_TOGETHER ? `First ${MOST_TOGETHER - 1} of its ${partners.length} partners` : "All its partners";
  return [...(partners.length > 1 ? [["all", most]] : [["all", each[0][1]]]), ...(partners.length > 1 ? each : []), ["", "Nothing"]];
}

/** What a run of a model is called among its others. */
function entryName(entry, own) {
  const { task, method, setting, date } = entryKey(entry);
  const several = new Set(own.map((e) => e.setting)).size > 1;
  const extra = [setting ?? (several && settingName(entry.setting)), date].filter(Boolean).join(", ");
  return extra ? `${task}, ${method} (${extra})` : `${task}, ${method}`;
}

function curveCard(chosen) {
  return card(
    "Reliability without bins",
    "The accuracy that rises with confidence and fits best (isotonic regression; Dimitriadis, Gneiting and Jordan 2021), with the 95 % band of a calibrated model; thin, the smooth curve behind smECE (Błasiok and Nakkiran 2023).",
    () => curveChart(sidesOf(chosen)),
    { id: "curve", file: runParts },
  );
}

function riskCard(chosen) {
  return card(
    "Risk and coverage",
    "Share of wrong answers if only the most confident are given, in the same run.",
    () => riskChart(sidesOf(chosen).map((side) => ({ ...side, colour: colour(side.colour) }))),
    { id: "model-risk", file: runParts },
  );
}
