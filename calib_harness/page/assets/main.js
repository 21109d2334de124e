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
  now.view = view in views ? view : "leaderboard";
  given[now.view] = rest;
  for (const other of Object.keys(views)) document.getElementById(other).hidden = other !== now.view;
  document.getElementById("verdict").hidden = !["leaderboard", "compare"].includes(now.view) || doc.verdict === null;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === now.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showView();
  writeAddress();
  if (view && !(view in views)) showNotice([`This page has no view “${shown(middleCut(view, 40))}”: here is the leaderboard.`]);
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

/** What the tests say, in words that `calib_harness.analysis` wrote, and where to look next. */
function showVerdict() {
  const target = document.getElementById("verdict");
  target.hidden = doc.verdict === null;
  if (doc.verdict === null) return;
  const worst = doc.verdict.change === null ? null : changes[doc.verdict.change];
  replace(
    target,
    h("h2", { id: "verdict-title" }, "What the tests say"),
    doc.verdict.sentences.map((sentence) => h("p", {}, name(sentence))),
    worst &&
      h(
        "p",
        { class: "actions" },
        h("a", { class: "button", href: addressOfChange(worst) }, "The largest change"),
        hasQuestions(worst.sides[0]) && h("a", { class: "button", href: addressOfChangedQuestions(worst) }, "On which questions"),
        h("button", { type: "button", click: () => copyText(doc.verdict.sentences.join("\n"), "Text") }, "Copy text"),
      ),
  );
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
  showVerdict();
  showMeasured();
  window.addEventListener("hashchange", route);
  route();
  document.documentElement.dataset.ready = "true";
}

start();
