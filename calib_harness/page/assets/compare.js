// The comparison: which charts there are, and what is chosen for all of them.

const comparison = { metric: "ece", task: 0, method: 0, family: "", cards: null };

function showCompare() {
  if (comparison.cards === null) {
    comparison.metric = metricIndex.has("ece") ? "ece" : doc.metrics[0].name;
    comparison.task = board.task < 0 ? 0 : board.task;
    comparison.method = board.method < 0 ? 0 : board.method;
    comparison.cards = compareCards();
    replace(document.getElementById("compare-cards"), comparison.cards);
  }
  drawCompareControls();
  drawCompare();
}

function drawCompare() {
  for (const figure of comparison.cards) figure.draw();
}

function drawCompareControls() {
  const set = (key, convert = String) => (value) => {
    comparison[key] = convert(value);
    drawCompare();
  };
  const families = distinct(doc.models.map((model) => model.family));
  replace(
    document.getElementById("compare-controls"),
    choose(
      "Metric",
      doc.metrics.filter((m) => m.direction).map((m) => [m.name, m.name]),
      comparison.metric,
      set("metric"),
    ),
    choose("Task", optionsFor(doc.tasks), comparison.task, set("task", Number)),
    choose("Method", optionsFor(doc.methods), comparison.method, set("method", Number)),
    families.length > 0 &&
      choose("Family", [["", "All families"], ...families.map((f) => [f, f])], comparison.family, set("family")),
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

const NO_PAIRS = "No pairs of base and aligned models: name them with --pairs pairs.csv (family, base, aligned).";
const NOTHING = "Nothing measured for this task, method and family.";

function compareCards() {
  return [
    card("Change by family", "Aligned − base with its 95 % interval; blue better, orange worse, faded where the interval leaves open which.", forestChart, { id: "forest", wide: true }),
    card("Change by task", "Aligned − base for every pair and task, blue better, orange worse; faded and in brackets where the interval leaves open which.", heatChart, { id: "heat", wide: true }),
    card("Ranks across tasks", "Pairs by their relative change in each task, 1 the largest: parallel lines mean that tasks agree.", bumpChart, { id: "bump", wide: true }),
    card("Accuracy against calibration", "Each arrow leads from a base model to its aligned one.", arrowChart, { id: "arrows" }),
    card("Risk and coverage", "Share of wrong answers if only the most confident are given.", compareRisk, { id: "risk" }),
    card("Trajectories", "A metric along stages or checkpoints, with 95 % intervals.", trajectoryChart, { id: "trajectories", wide: true }),
  ];
}
