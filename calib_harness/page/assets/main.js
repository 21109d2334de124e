// Start: unpack the numbers, then show the view that the address names.

function route() {
  const { view, chosen } = parseAddress(location.hash);
  if (view === "measured") {
    const foot = document.getElementById("measured");
    foot.scrollIntoView();
    foot.focus({ preventScroll: true });
    return;
  }
  const { theme, ...rest } = chosen;
  if (theme === "dark" || theme === "light") useTheme(theme);
  const before = now.view;
  now.view = Object.hasOwn(views, view) ? view : "leaderboard";
  given[now.view] = rest;
  for (const other of Object.keys(views)) document.getElementById(other).hidden = other !== now.view;
  document.getElementById("verdict").hidden = true; // views that have one show it
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === now.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showView();
  writeAddress();
  if (view && !Object.hasOwn(views, view)) showNotice([`This page has no view “${shown(middleCut(view, 40))}”: here is the leaderboard.`]);
  if (before !== now.view || now.view === "two") window.scrollTo(0, 0);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").setAttribute("aria-pressed", String(theme === "dark"));
}

/** A theme that the reader chose: it stays in the address. */
function useTheme(theme) {
  now.theme = theme;
  setTheme(theme);
}

function startTheme() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => {
    writeAddress();
    showView(); // charts take their colours when they are drawn
  };
  setTheme(system.matches ? "dark" : "light");
  system.addEventListener("change", () => {
    if (now.theme) return;
    setTheme(system.matches ? "dark" : "light");
    redraw();
  });
  document.getElementById("theme").addEventListener("click", () => {
    useTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    redraw();
  });
}

const MOST_VERDICTS = 3;

/** What the tests say of a task and a method (null: of all), in words that the package wrote. */
function showVerdict(task, method) {
  const target = document.getElementById("verdict");
  const fits = (known, place, list) => place === null || known === list[place];
  const all = doc.verdicts.filter((v) => fits(v.task, task, doc.tasks) && fits(v.method, method, doc.methods));
  target.hidden = all.length === 0;
  if (all.length === 0) return;
  const worstFirst = [...all].sort((a, b) => b.worse - a.worse || b.better - a.better);
  const sum = (key) => all.reduce((total, verdict) => total + verdict[key], 0);
  const everyChange = addressOf("leaderboard", { rows: "pairs", task: "", method: "" });
  const counted = `Of ${plural(sum("pairs"), "comparison")} of a pair on a task by a method, ${sum("worse")} are measurably worse calibrated after alignment and ${sum("better")} better.`;
  replace(
    target,
    h("h2", { id: "verdict-title" }, "What the tests say"),
    all.length > MOST_VERDICTS && h("p", {}, counted),
    all.length > 1 && h("p", { class: "actions" }, h("a", { class: "button", href: everyChange }, "Every change, worst first")),
    worstFirst.slice(0, MOST_VERDICTS).map(oneVerdict),
  );
}

function oneVerdict(verdict) {
  const worst = verdict.change === null ? null : changes[verdict.change];
  const text = `${verdict.task} (${verdict.method}): ${verdict.sentences.join(" ")}`;
  return h("div", {}, h("p", {}, name(text)), h(
    "p",
    { class: "actions" },
    worst && h("a", { class: "button", href: addressOfChange(worst) }, "The largest change"),
    worst && hasQuestions(worst.sides[0]) && h("a", { class: "button", href: addressOfChangedQuestions(worst) }, "On which questions"),
    h("button", { type: "button", click: () => copyText(text, "Text") }, "Copy text"),
  ));
}

function addressOfChangedQuestions({ sides }) {
  const { model, method, setting, date } = entryKey(sides[1]);
  return addressOf("questions", { ...entryKey(sides[0]), model2: model, method2: method, setting2: setting, date2: date, order: "change" });
}

async function start() {
  startTheme();
  document.title = shown(doc.made.title);
  replace(document.getElementById("title"), name(doc.made.title));
  document.getElementById("summary").textContent = [
    plural(doc.models.length, "model"),
    plural(doc.tasks.length, "task"),
    plural(doc.methods.length, "method"),
    doc.pairs.length ? plural(doc.pairs.length, "pair") : "",
  ]
    .filter(Boolean)
    .join(" · ");
  const on = (id, act) => document.getElementById(id).addEventListener("click", act);
  on("open-definitions", () => showDefinitions());
  on("copy-link", () => copyText(location.href, "Link"));
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  }
  numbers = await unpack("numbers");
  changes = allChanges();
  document.querySelector('nav a[data-view="questions"]').hidden = !entries.some(hasQuestions);
  showMeasured();
  window.addEventListener("hashchange", route);
  route();
  document.documentElement.dataset.ready = "true";
}

start();
