// The foot of the page: what was measured, and what the metrics mean.

function showMeasured() {
  const { made, options } = doc;
  const target = document.getElementById("measured-body");
  replace(
    target,
    h(
      "dl",
      { class: "facts-list" },
      h("dt", {}, "Made"),
      h("dd", {}, made.date),
      h("dt", {}, "With"),
      h("dd", {}, Object.entries(made.packages).map(([key, version]) => `${key} ${version}`).join(", ")),
      h("dt", {}, "Bins"),
      h("dd", {}, `M = ${options.n_bins}, ${RULES[options.binning]}`),
      h("dt", {}, "Diagrams"),
      h("dd", {}, diagramsText()),
      h("dt", {}, "Errors"),
      h("dd", {}, options.n_resamples
        ? `bootstrap over questions, ${options.n_resamples.toLocaleString("en")} resamples, seed ${options.seed}; 95 % intervals`
        : "none (--resamples 0)"),
      doc.pairs.length > 0 && h("dt", {}, "Changes"),
      doc.pairs.length > 0 && h("dd", {}, changesText()),
      made.command && h("dt", {}, "Make this page again"),
      made.command && h("dd", {}, h("pre", { tabindex: "0" }, shown(made.command))),
    ),
    h("div", { id: "runs-table" }),
    prompts(),
  );
  runsTable();
}

/** Which bins the diagrams of this page have; very large pages keep fewer. */
function diagramsText() {
  const named = (binnings) => binnings.map(binningName).join("; ");
  return doc.class_binnings.length < doc.binnings.length
    ? `top choice: ${named(doc.binnings)}; of a choice position: ${named(doc.class_binnings)}`
    : named(doc.binnings);
}

/** How changes were tested, and whether so few resamples can show anything after Holm. */
function changesText() {
  const { n_resamples: resamples, correction, cost } = doc.tests;
  const text = `paired bootstrap over the questions both sides share, ${resamples.toLocaleString("en")} resamples; ${correction}`;
  return cost ? `${text}. ${cost}` : text;
}

function runsTable() {
  const rows = doc.runs.map((run) => ({
    ...run,
    methods: run.methods.join(", "),
    packages: Object.entries(run.packages).filter(([, v]) => v).map(([key, v]) => `${key} ${v}`).join(", "),
    n_shot: run.n_shot ?? "?",
    chat: run.chat_template === null ? "?" : run.chat_template ? "yes" : "no",
    bins: doc.options.n_bins,
    date: run.date.slice(0, 16).replace("T", " "),
  }));
  const text = (title, field, maxWidth = 260) =>
    column(title, field, { maxWidth, formatter: (cell) => cutName(String(cell.getValue())) });
  const short = new Map(doc.models.map(({ label }, i) => [label, modelNames[i]]));
  const columns = [
    column("Model", "model", {
      maxWidth: 340,
      formatter: (cell) => cutName(short.get(cell.getValue()) ?? cell.getValue()),
    }),
    text("Revision", "revision", 160),
    text("Task", "task"),
    text("Version", "task_version"),
    text("Shots", "n_shot"),
    text("Chat template", "chat"),
    text("n", "n"),
    text("Unusable", "unusable"),
    text("M", "bins"),
    text("Methods", "methods"),
    text("Settings", "settings"),
    text("Versions", "packages", 320),
    text("Date", "date", 200),
    text("Log", "source", 420),
  ];
  const told = columns.filter(({ field }) => rows.some((row) => row[field] !== "" && row[field] !== null));
  makeTable(document.getElementById("runs-table"), "Runs", rows, told);
}

/** Prompt templates, once per task: they are the same for all its runs, or listed apart. */
function prompts() {
  const seen = new Map();
  for (const { task, prompt } of doc.runs) {
    const key = JSON.stringify([task, prompt]);
    if (Object.keys(prompt).length > 0) seen.set(key, { task, prompt });
  }
  return [...seen.values()].map(({ task, prompt }) =>
    h(
      "details",
      { class: "prompt" },
      h("summary", {}, "Prompt of ", cutName(task)),
      h("dl", { class: "facts-list" }, Object.entries(prompt).map(([key, value]) => [
        h("dt", {}, key),
        h("dd", {}, h("pre", { tabindex: "0" }, quoted(value))),
      ])),
    ),
  );
}

/** A template with its line breaks kept and everything else that is invisible shown. */
function quoted(text) {
  return text.split("\n").map(shown).join("\n");
}
