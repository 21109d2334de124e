// The comparison: which charts there are, and what is chosen for all of them.

const comparison = { metric: "ece", task: 0, method: 0, family: "", cards: null };

views.compare = {
  defaults: () => {
    const best = mostCommonCombination();
    return { metric: metricIndex.has("ece") ? "ece" : doc.metrics[0].name, task: doc.tasks[best.task], method: doc.methods[best.method], family: "" };
  },
  show: (chosen) => {
    const task = placeOf(doc.tasks, chosen.task, "task");
    const offered = methodsOf(task);
    const wanted = placeOf(doc.methods, chosen.method, "method", offered[0]);
    if (!offered.includes(wanted)) now.misses.push(`${shown(chosen.task)} was not measured by ${shown(chosen.method)}: ${doc.methods[offered[0]]} is shown.`);
    const metrics = doc.metrics.filter((m) => m.direction && (!m.of_changes || doc.pairs.length > 0)).map((m) => m.name);
    const metric = metrics[placeOf(metrics, chosen.metric, "metric")];
    Object.assign(comparison, { metric, task, method: offered.includes(wanted) ? wanted : offered[0], family: chosen.family });
    if (comparison.cards === null) {
      comparison.cards = compareCards();
      replace(document.getElementById("compare-cards"), comparison.cards);
    }
    drawCompareControls(metrics, offered);
    showVerdict(comparison.task, comparison.method);
    replace(document.getElementById("compare-note"), doc.pairs.length > 0 && h("p", { class: "muted" }, `A change is told apart where ${clearWords()}; ${doc.tests.correction}. ${doc.tests.cost}`), doc.pairs.length === 0 && h("p", { class: "muted" }, NO_PAIRS), doc.chains.length === 0 && h("p", { class: "muted" }, NO_CHAINS));
    for (const figure of comparison.cards) figure.draw();
  },
};

function drawCompareControls(metrics, offered) {
  const set = (key) => (value) => alter({ [key]: value });
  const families = distinct(doc.models.map((model) => model.family));
  replaceControls(
    document.getElementById("compare-controls"),
    choose("Metric", named(metrics), comparison.metric, set("metric")),
    choose("Task", named(doc.tasks), doc.tasks[comparison.task], set("task")),
    choose("Method", named(offered.map((m) => doc.methods[m])), doc.methods[comparison.method], set("method")),
    families.length > 0 && choose("Family", [["", "All families"], ...named(families)], comparison.family, set("family")),
  );
}

function inFamily(model) {
  return !comparison.family || doc.models[model].family === comparison.family;
}

function currentEntries() {
  return entries.filter(
    (e) => e.task === comparison.task && e.method === comparison.method && inFamily(e.model),
  );
}

const NO_PAIRS = "No pairs of base and aligned models: name them with --pairs pairs.csv (family, base, aligned). Any two runs can be compared under “Two runs”.";
const NO_CHAINS = "No chain of stages or checkpoints: name one with --chain chain.csv, or report a sweep with stages or steps.";
const NOTHING = "Nothing measured for this task, method and family.";

/** The parts of a file's name that say what is shown. */
const compareParts = (ofMetric = true, ofTask = true) => () =>
  [ofMetric && comparison.metric, ofTask && doc.tasks[comparison.task], doc.methods[comparison.method], comparison.family].filter(Boolean);

function compareCards() {
  const faded = "hollow, or pale and in brackets, where not told apart";
  return [
    card("Change by family", `Aligned − base with its 95 % interval; blue better, orange worse, ${faded}. A mark opens its pair.`, forestChart, { id: "forest", wide: true, file: compareParts() }),
    card("Change by task", `Aligned − base for every pair and task, blue better, orange worse; ${faded}. A cell opens its pair.`, heatChart, { id: "heat", wide: true, file: compareParts(true, false) }),
    card("Ranks across tasks", "Pairs by their change in each task, less what chance alone would give, 1 the largest: parallel lines mean that tasks agree. A line, or its row in the table, is brought out by pointing at it.", bumpChart, { id: "bump", wide: true, file: compareParts(true, false) }),
    card("Accuracy against calibration", "Each arrow leads from a base model to its aligned one. A mark opens its run.", arrowChart, { id: "arrows", file: compareParts() }),
    card("Risk and coverage", "Share of wrong answers if only the most confident are given.", compareRisk, { id: "risk", file: compareParts(false) }),
    card("Trajectories", "A metric along stages or checkpoints, with 95 % intervals. A mark opens its run.", trajectoryChart, { id: "trajectories", wide: true, file: compareParts() }),
  ];
}
