// Any two runs: stages, shots, number formats, backends; what changed, and whether it can be told.

views.two = {
  defaults: () => {
    const [first, second] = changes[0]?.sides ?? [entries[0], entries.find((e, i) => i > 0 && e.task === entries[0].task && e.method === entries[0].method) ?? entries[0]];
    const { model, method, setting, date } = entryKey(second);
    return { ...entryKey(first), setting: entryKey(first).setting ?? null, date: entryKey(first).date ?? null, model2: model, method2: method, setting2: setting ?? null, date2: date ?? null };
  },
  show: showTwo,
};

function showTwo(all) {
  const own = given.two ?? {};
  // What an address leaves out of the second run is as in the first.
  const chosen = own.model ? { ...own, model2: own.model2 ?? own.model, method2: own.method2 ?? own.method } : all;
  const task = placeOf(doc.tasks, chosen.task, "task");
  const runs = entriesBy("*", task, "*");
  const first = sideChosen(chosen, "", runs);
  const second = sideChosen(chosen, "2", runs, first);
  drawTwoControls(task, runs, first, second);
  const list = [first, second];
  const labels = entryLabels(list);
  const sides = list.map((entry, i) => ({ entry, label: labels[i] === labels[1 - i] ? `${labels[i]} (${i + 1})` : labels[i], colour: LOOKS[i][0] }));
  const parts = () => [doc.tasks[task], ...sides.map((side) => side.label)];
  const binning = doc.binnings[Math.max(mainBinning(), 0)];
  const inked = () => sides.map((side) => ({ ...side, colour: colour(side.colour) }));
  const cards = [
    card("Reliability", "Accuracy against mean confidence per bin, of both.", () => reliabilityChart(sides, binning, null), { id: "two-reliability", file: parts }),
    card("Reliability without bins", "The accuracy that rises with confidence and fits best, with the band of a calibrated model; thin, the smooth curve behind smECE (Błasiok and Nakkiran 2023).", () => curveChart(sides), { id: "two-curve", file: parts }),
    card("Risk and coverage", "Share of wrong answers if only the most confident are given.", () => riskChart(inked()), { id: "two-risk", file: parts }),
  ];
  const table = h("div", { id: "two-table" });
  replace(document.getElementById("two-body"), twoActions(first, second), table, h("div", { class: "cards" }, cards));
  fillTwoTable(table, first, second, parts);
  for (const each of cards) each.draw();
}

function sideChosen(chosen, suffix, all, other = null) {
  const of = (key) => chosen[key + suffix];
  const fits = (entry) => {
    const key = entryKey(entry);
    return ["model", "method", "setting", "date"].every((name) => !of(name) || (key[name] ?? of(name)) === of(name));
  };
  const found = all.find((e) => fits(e) && e !== other) ?? all.find(fits);
  if (!found) missing("run", [of("model"), chosen.task, of("method"), of("setting")].filter(Boolean).join(", "));
  return found ?? all.find((e) => e !== other) ?? all[0];
}

function drawTwoControls(task, all, first, second) {
  const labels = entryLabels(all);
  const options = all.map((entry, i) => [entry.i, labels[i]]);
  const byNumberOf = (i) => entries[Number(i)];
  const goTo = (one, other) => {
    given.two = {};
    go(addressOfTwo(one, other));
  };
  replaceControls(
    document.getElementById("two-controls"),
    choose("Task", named(doc.tasks), doc.tasks[task], (name) => {
      const like = (e) => entries.find((x) => x.model === e.model && doc.tasks[x.task] === name && x.method === e.method && x.setting === e.setting)
        ?? entries.find((x) => x.model === e.model && doc.tasks[x.task] === name) ?? entriesBy("*", doc.tasks.indexOf(name), "*")[0];
      goTo(like(first), like(second));
    }),
    choose("First run", options, first.i, (i) => goTo(byNumberOf(i), second)),
    choose("Second run", options, second.i, (i) => goTo(first, byNumberOf(i))),
    h("button", { type: "button", click: () => goTo(second, first) }, "Swap"),
  );
}

function twoActions(first, second) {
  if (first.task !== second.task || !hasQuestions(first)) return null;
  const { model, method, setting, date } = entryKey(second);
  const href = (order) => addressOf("questions", { ...entryKey(first), model2: model, method2: method, setting2: setting, date2: date, order });
  return h(
    "p",
    { class: "actions" },
    h("a", { class: "button", href: href("change") }, "Questions that changed most"),
    h("a", { class: "button", href: href("flipped") }, "Questions that went wrong"),
  );
}

/** Changes of the two as `compare` tested them; if the pair is none of these, computed here. */
async function fillTwoTable(target, first, second, parts) {
  const tested = new Map(changes.filter((c) => c.sides[0] === first && c.sides[1] === second).map((c) => [c.metric, c]));
  const doubt = tested.size ? null : doubtOf(first, second);
  const rows = [];
  for (const metric of doc.metrics) {
    if (metric.of_changes && !tested.has(metric.name)) continue;
    const alone = (value) => ({ value, stderr: NaN, low: NaN, high: NaN });
    const own = metric.of_changes
      ? [alone(tested.get(metric.name).base), alone(tested.get(metric.name).aligned)]
      : [measured(first, metric.name), measured(second, metric.name)];
    const known = tested.get(metric.name) ?? (first.task === second.task ? await changeBetween(first, second, metric.name) : null);
    rows.push({ metric, own, known, isTested: tested.has(metric.name) });
  }
  const cells = rows.map(({ metric, own, known, isTested }) => [
    metric.name + arrow(metric),
    spreadWords(own[0], "interval"),
    spreadWords(own[1], "interval"),
    known && metric.direction ? signed(known.change) : "–",
    known ? interval(known.low, known.high) : "",
    known ? pValue(known.p) : "",
    ...(tested.size ? [isTested ? evidence(known) : ""] : []),
  ]);
  const data = {
    title: "What changed",
    columns: ["metric", "first run", "second run", "change", "95 % interval", "p", ...(tested.size ? ["p (Holm)"] : [])],
    rows: cells,
  };
  const words = tested.size
    ? `These two are a pair of this page: the questions both sides share, ${doc.tests.correction}.`
    : doubt ?? `Computed here on the ${first.n.toLocaleString("en")} questions that both answered, from ${doc.options.n_resamples.toLocaleString("en")} shared resamples. p is of each change alone: of two runs chosen among many, some differ by chance.`;
  const [one, other] = [first.n - first.unusable, second.n - second.unusable];
  const own = one === other ? `n = ${one}` : `n = ${one} and ${other}`;
  const shared = tested.size ? [...tested.values()][0].n : one;
  const n = tested.size && (shared !== one || shared !== other) ? `The values are each run's own (${own}), the changes those of the ${shared} shared questions` : own;
  replace(
    target,
    h("div", { class: "table-head" }, takeOut(data.title, tableActions(() => data, parts))),
    plainTable(data),
    h("p", { class: doubt ? "warning" : "muted", id: "two-note" }, `${words} ${n}.`),
    h("p", { class: "muted" }, biasedWords(doc.metrics.filter((m) => m.biased))),
  );
}
