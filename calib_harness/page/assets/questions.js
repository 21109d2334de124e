// Questions: which were answered wrongly and with confidence, which changed, which all miss.

let questionColumns = null; // unpacked when questions are first asked for
let questionTexts = null;

const hasQuestions = (entry) => doc.questions.tasks[entry.task].kept > 0;

const AT_ONCE = 40;
const ORDERS = {
  wrong: "Most confidently wrong",
  loss: "Least probability of the gold choice",
  change: "Largest change of the gold choice's probability",
  flipped: "Went from right to wrong",
  mended: "Went from wrong to right",
  missed: "Missed by most runs",
  number: "As in the benchmark",
};

views.questions = {
  defaults: () => ({ ...entryKey(entries.find(hasQuestions) ?? entries[0]), setting: null, date: null, model2: null, method2: null, setting2: null, date2: null, order: "wrong", find: "", from: null, to: null, first: String(AT_ONCE) }),
  show: showQuestions,
};

/** The questions of a task that the page carries, with every run's probabilities of them. */
async function questionsOf(task) {
  questionColumns ??= unpack("questions-data");
  questionTexts ??= unpackText("question-texts");
  const [c, texts] = [await questionColumns, await questionTexts];
  const starts = prefixSums("question_tasks", Uint32Array.from(doc.questions.tasks, ({ kept }) => kept));
  const widths = c.question_choices;
  const answers = prefixSums("question_choices", widths);
  const rowsOf = entriesBy("*", task, "*");
  const list = [];
  for (let q = starts[task]; q < starts[task + 1]; q += 1) {
    list.push({ ...texts[q], number: c.question_number[q], gold: c.question_gold[q], at: answers[q] - answers[starts[task]], width: widths[q] });
  }
  const size = answers[starts[task + 1]] - answers[starts[task]];
  const base = doc.questions.tasks[task].at;
  const order = new Map(rowsOf.map((entry, i) => [entry.i, i]));
  const probsOf = (entry, question) => {
    const at = base + order.get(entry.i) * size + question.at;
    const probs = Array.from(c.question_probs.subarray(at, at + question.width), (v) => v / 65535);
    return probs.some((p) => p > 0) ? probs : null; // null: not answered, or its scores cannot be used
  };
  return { list, probsOf, runs: rowsOf };
}

async function unpackText(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** What a run answered: the first most probable choice, its probability, and that of the gold one. */
function answerOf(probs, gold) {
  if (probs === null) return null;
  const confidence = Math.max(...probs);
  const given = probs.indexOf(confidence);
  return { probs, given, confidence, right: given === gold, ofGold: probs[gold] };
}

async function showQuestions(chosen) {
  const task = placeOf(doc.tasks, chosen.task, "task");
  const all = entriesBy("*", task, "*");
  const first = sideChosen(chosen, "", all);
  const second = chosen.model2 ? sideChosen(chosen, "2", all, first) : null;
  drawQuestionControls(chosen, task, all, first, second);
  const target = document.getElementById("questions-body");
  const about = doc.questions.tasks[task];
  if (about.kept === 0) {
    replace(target, h("p", { class: "empty" }, about.why));
    return;
  }
  const ticket = (showQuestions.ticket = Symbol("the latest call draws"));
  const { list, probsOf, runs } = await questionsOf(task);
  if (showQuestions.ticket !== ticket) return;
  const answered = list
    .map((question) => ({
      question,
      one: answerOf(probsOf(first, question), question.gold),
      two: second && answerOf(probsOf(second, question), question.gold),
      all: () => runs.map((entry) => ({ entry, answer: answerOf(probsOf(entry, question), question.gold) })),
    }))
    .filter(({ one, two }) => one !== null && (!second || two !== null));
  const found = ordered(answered.filter(asked(chosen)), orderOf(chosen, second));
  const count = Number(chosen.first) || AT_ONCE;
  const sides = second ? [first, second] : [first];
  const labels = entryLabels(sides);
  replace(
    target,
    h("div", { class: "table-head" }, h("p", { class: "muted", id: "questions-note" }, questionsNote(found, about, chosen)), takeOut("Questions", tableActions(() => questionTable(found, labels), () => ["questions", doc.tasks[task], ...labels]))),
    h("ol", { class: "questions" }, found.slice(0, count).map((each) => questionItem(each, labels))),
    found.length > count && h("button", { type: "button", click: () => alter({ first: String(count + AT_ONCE) }) }, `Show more (${found.length - count} left)`),
    found.length === 0 && h("p", { class: "empty" }, "No question that the page carries fits: choose another order, or clear the search."),
  );
}

function drawQuestionControls(chosen, task, all, first, second) {
  const labels = entryLabels(all);
  const options = all.map((entry, i) => [entry.i, labels[i]]);
  const keyed = (entry, suffix) => {
    const { model, method, setting, date } = entry ? entryKey(entry) : {};
    return Object.fromEntries([["model", model], ["method", method], ["setting", setting], ["date", date]].map(([key, value]) => [key + suffix, value ?? null]));
  };
  const orders = Object.entries(ORDERS).filter(([key]) => second || !["change", "flipped", "mended"].includes(key));
  const range = chosen.from !== null && chosen.to !== null;
  replaceControls(
    document.getElementById("questions-controls"),
    choose("Task", named(doc.tasks), doc.tasks[task], (name) => alter({ task: name, method: null, setting: null, date: null, method2: null, setting2: null, date2: null, from: null, to: null })),
    choose("Run", options, first.i, (i) => alter({ task: doc.tasks[task], ...keyed(entries[Number(i)], "") })),
    choose("Against", [["", "No other run"], ...options], second ? second.i : "", (i) => alter({ task: doc.tasks[task], ...keyed(i === "" ? null : entries[Number(i)], "2"), order: i === "" ? "wrong" : "change" })),
    choose("Order", orders, orderOf(chosen, second), (order) => alter({ order })),
    search("Search questions", chosen.find, (find) => alter({ find, first: null })),
    range && h("button", { type: "button", click: () => alter({ from: null, to: null }) }, `Confidence ${fixed(Number(chosen.from), 2)}–${fixed(Number(chosen.to), 2)} ×`),
  );
}

const orderOf = ({ order }, second) => (!Object.hasOwn(ORDERS, order) || (!second && ["change", "flipped", "mended"].includes(order)) ? "wrong" : order);

/** Whether a question is among those asked for. */
function asked({ find, from, to, order, model2 }) {
  const wanted = find.trim().toLowerCase();
  const kind = orderOf({ order }, model2);
  return ({ question, one, two }) => {
    if (wanted && !`${question.text} ${question.choices.join(" ")}`.toLowerCase().includes(wanted)) return false;
    if (from !== null && to !== null && !((one.confidence > Number(from) || Number(from) === 0) && one.confidence <= Number(to))) return false;
    if (kind === "flipped") return one.right && !two.right;
    if (kind === "mended") return !one.right && two.right;
    return true;
  };
}

const missesOf = (all) => all().filter(({ answer }) => answer && !answer.right).length;

function ordered(list, order) {
  const keys = {
    wrong: ({ one }) => (one.right ? 2 - one.confidence : -one.confidence),
    loss: ({ one }) => one.ofGold,
    change: ({ one, two }) => (two ? -Math.abs(two.ofGold - one.ofGold) : one.ofGold),
    flipped: ({ one, two }) => (two ? two.ofGold - one.ofGold : 0),
    mended: ({ one, two }) => (two ? one.ofGold - two.ofGold : 0),
    missed: ({ all }) => -missesOf(all),
    number: ({ question }) => question.number,
  };
  const key = keys[order];
  return list.map((each) => [key(each), each]).sort((a, b) => a[0] - b[0]).map(([, each]) => each);
}

function questionsNote(found, { kept, total, why }, chosen) {
  const wrong = found.filter(({ one }) => !one.right).length;
  const whole = kept === total ? `all ${total} questions of the task` : `${kept} of ${total} questions of the task: ${why}`;
  const range = chosen.from === null ? "" : " of this range of confidence";
  return `${plural(found.length, "question")}${range} shown, ${wrong} answered wrongly by the first run. The page carries ${whole}.`;
}

function questionItem({ question, one, two, all }, labels) {
  const answers = two ? [one, two] : [one];
  const misses = missesOf(all);
  const known = all().filter(({ answer }) => answer).length;
  const rows = question.choices.map((text, k) =>
    h(
      "tr",
      { class: k === question.gold ? "gold" : null },
      h("td", {}, k === question.gold ? "✓" : "", h("span", { class: "sr" }, k === question.gold ? "gold" : "")),
      h("td", { class: "choice" }, quoted(text)),
      answers.map((answer) =>
        h("td", { class: `prob ${answer.given === k ? (answer.right ? "right" : "wrong") : ""}` },
          h("span", { class: "meter", style: `width:${(answer.probs[k] * 4).toFixed(2)}rem`, "aria-hidden": "true" }), ` ${probability(answer.probs[k])}`),
      ),
    ),
  );
  const more = h("details", {}, h("summary", {}, `Missed by ${misses} of ${plural(known, "run")} of this task`));
  more.addEventListener("toggle", () => {
    if (more.open && more.children.length === 1) more.append(everyRun(question, all()));
  });
  return h(
    "li",
    { class: "question" },
    h("p", { class: "question-text" }, quoted(question.text)),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, ""), h("th", {}, "choice"), labels.map((label) => h("th", {}, cutName(label, { most: 40 }))))), h("tbody", {}, rows))),
    h("p", { class: "muted" }, answers.map((answer, i) => `${i ? " → " : ""}${answer.right ? "right" : "wrong"} with confidence ${probability(answer.confidence)}`).join(""), question.number >= 0 ? ` · question ${question.number}` : ""),
    more,
  );
}

function everyRun(question, all) {
  const known = all.filter(({ answer }) => answer);
  const labels = entryLabels(known.map(({ entry }) => entry));
  return plainTable({
    title: "Probabilities of every run",
    columns: ["run", "answer", ...question.choices.map((_, k) => (k === question.gold ? `${k + 1} (gold)` : String(k + 1)))],
    rows: known.map(({ entry, answer }, i) => [{ text: labels[i], href: addressOfEntry(entry) }, answer.right ? "right" : "wrong", ...answer.probs.map(probability)]),
  });
}

function questionTable(found, labels) {
  const columns = ["question", "text", "gold", ...labels.flatMap((label) => [`${label}: answer`, `${label}: confidence`, `${label}: p of gold`])];
  const rows = found.map(({ question, one, two }) => [
    String(question.number),
    question.text,
    question.choices[question.gold] ?? "",
    ...(two ? [one, two] : [one]).flatMap((a) => [question.choices[a.given], fixed(a.confidence), fixed(a.ofGold)]),
  ]);
  return { title: "Questions", columns, rows };
}
