// Start: unpack the numbers, then show the view that the address names.

const VIEWS = ["leaderboard", "model", "compare"];

function go(hash) {
  if (location.hash === hash) route();
  else location.hash = hash;
}

function route() {
  const [, view = "leaderboard", argument] = location.hash.match(/^#\/([a-z]+)(?:\/(\d+))?$/) ?? [];
  if (view === "measured") {
    const foot = document.getElementById("measured");
    foot.scrollIntoView();
    foot.focus({ preventScroll: true });
    return;
  }
  const chosen = VIEWS.includes(view) ? view : "leaderboard";
  for (const other of VIEWS) document.getElementById(other).hidden = other !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (chosen === "leaderboard" && board.table?.built) board.table.redraw(true);
  if (chosen === "model") showModel(Math.min(Number(argument ?? modelView.model), doc.models.length - 1));
  if (chosen === "compare") showCompare();
  if (argument !== undefined) window.scrollTo(0, 0);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(theme === "dark"));
}

function startTheme() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let own = false;
  const redraw = () => {
    if (!document.getElementById("leaderboard").hidden) return;
    route(); // charts take their colours when they are drawn
  };
  setTheme(system.matches ? "dark" : "light");
  system.addEventListener("change", () => {
    if (own) return;
    setTheme(system.matches ? "dark" : "light");
    redraw();
  });
  document.getElementById("theme").addEventListener("click", () => {
    own = true;
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    redraw();
  });
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
  document.getElementById("open-definitions").addEventListener("click", () => showDefinitions());
  document.getElementById("close-definitions").addEventListener("click", () =>
    document.getElementById("definitions").close(),
  );
  numbers = await unpack("numbers");
  changes = allChanges();
  showLeaderboard();
  showMeasured();
  window.addEventListener("hashchange", route);
  route();
  document.documentElement.dataset.ready = "true";
}

start();
