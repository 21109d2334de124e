// One model: where it stands, all its numbers, and its reliability diagrams.

const modelView = { model: 0, entry: null, binning: 0, position: null, overlay: true };

function showModel(model) {
  modelView.model = model;
  const own = entries.filter((entry) => entry.model === model);
  const kept = own.find((entry) => entry.i === modelView.entry?.i);
  modelView.entry = kept ?? own[0];
  modelView.binning = Math.max(mainBinning(), 0);
  modelView.position = null;
  const { label, family, stage, step } = doc.models[model];
  replace(document.getElementById("model-title"), name(modelNames[model], { class: "cut" }));
  const facts = [
    ["Name", label],
    ["Family", family],
    ["Stage", stage],
    ["Step", step === null ? "" : String(step)],
  ].filter(([, value]) => value !== "");
  const table = h("div", {});
  const risk = riskCard();
  const diagram = reliabilityCard(own, () => risk.draw());
  replace(
    document.getElementById("model-body"),
    h(
      "div",
      { class: "controls" },
      choose("Model", doc.models.map((_, i) => [i, modelNames[i]]), model, (i) => go(`#/model/${i}`)),
    ),
    h("dl", { class: "short" }, facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, name(value))])),
    relatives(model),
    table,
    h("div", { class: "cards" }, diagram, risk),
  );
  const metrics = doc.metrics;
  const [rows, columns] = modelBoard(metrics, own);
  const plain = columns.filter((c) => c.field !== "name");
  const shown = plain.some((c) => c.field === "task") ? plain : [taskColumn(), ...plain];
  makeTable(table, "All numbers of this model", rows.map((row) => ({ ...row, open: undefined })), shown);
  diagram.draw();
  risk.draw();
}

function taskColumn() {
  return column("Task", "task", { formatter: (cell) => name(cell.getValue(), { class: "cut" }) });
}

/** Links to the other side of the model's pairs. */
function relatives(model) {
  const links = doc.pairs
    .filter(({ base, aligned }) => base === model || aligned === model)
    .map(({ base, aligned }) => {
      const other = base === model ? aligned : base;
      const word = base === model ? "aligned: " : "base: ";
      return h("span", {}, word, h("a", { href: `#/model/${other}` }, name(modelNames[other], { class: "cut" })));
    });
  return links.length > 0 && h("p", { class: "relatives" }, links);
}

/** The entry of a partner model with the same task and method, if there is one. */
function partnerOf(entry) {
  for (const { base, aligned } of doc.pairs) {
    if (base !== entry.model && aligned !== entry.model) continue;
    const other = base === entry.model ? aligned : base;
    const same = (e) => e.model === other && e.task === entry.task && e.method === entry.method;
    const found = entries.find((e) => same(e) && e.setting === entry.setting) ?? entries.find(same);
    if (found) return { partner: found, isBase: base === entry.model };
  }
  return null;
}

function sidesOf(entry) {
  const pair = modelView.overlay ? partnerOf(entry) : null;
  const own = { entry, label: modelNames[entry.model], colour: "--base" };
  if (!pair) return [own];
  const other = { entry: pair.partner, label: modelNames[pair.partner.model], colour: "--base" };
  (pair.isBase ? other : own).colour = "--aligned";
  return pair.isBase ? [own, other] : [other, own];
}

function entryName(entry) {
  const setting = settingName(entry.setting);
  const plain = `${doc.tasks[entry.task]}, ${doc.methods[entry.method]}`;
  return new Set(doc.entries.setting).size > 1 && setting ? `${plain} (${setting})` : plain;
}

/** The diagram of the run that its controls choose; `onchoice` is called when they do. */
function reliabilityCard(own, onchoice) {
  const controls = h("div", { class: "controls inner" });
  const figure = card(
    "Reliability",
    "Accuracy against mean confidence per bin. Thin bars: exact 95 % intervals (Clopper and Pearson); " +
      "broad bars: where a calibrated model with these confidences would be. Below: how many questions.",
    () =>
      reliabilityChart(sidesOf(modelView.entry), doc.binnings[modelView.binning], modelView.position),
    { id: "reliability" },
  );
  const redraw = () => {
    drawControls();
    figure.draw();
    onchoice();
  };
  function drawControls() {
    const { entry, position } = modelView;
    const positions = Array.from({ length: doc.n_classes[entry.i] }, (_, k) => [k, `Choice ${k + 1}`]);
    const kept = (binning) =>
      position === null ||
      doc.class_binnings.some((other) => other[0] === binning[0] && other[1] === binning[1]);
    const binnings = doc.binnings.map((b, i) => [i, binningName(b), kept(b)]).filter((o) => o[2]);
    replace(
      controls,
      choose("Run", own.map((e) => [e.i, entryName(e)]), entry.i, (i) => {
        modelView.entry = entries[i];
        if (modelView.position >= doc.n_classes[i]) modelView.position = null;
        redraw();
      }),
      choose("Bins", binnings, modelView.binning, (i) => {
        modelView.binning = Number(i);
        redraw();
      }),
      choose("Of", [["", "Top choice"], ...positions], position ?? "", (k) => {
        modelView.position = k === "" ? null : Number(k);
        if (modelView.position !== null && doc.class_binnings.length < doc.binnings.length) {
          modelView.binning = Math.max(mainBinning(), 0);
        }
        redraw();
      }),
      partnerOf(entry) &&
        check("Base and aligned together", modelView.overlay, (on) => {
          modelView.overlay = on;
          redraw();
        }),
    );
  }
  drawControls();
  figure.querySelector("figcaption").after(controls);
  return figure;
}

function riskCard() {
  return card(
    "Risk and coverage",
    "Share of wrong answers if only the most confident are given, in the same run.",
    () => riskChart(sidesOf(modelView.entry).map((side) => ({ ...side, colour: colour(side.colour) }))),
    { id: "model-risk" },
  );
}
