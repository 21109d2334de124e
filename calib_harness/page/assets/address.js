// What is shown is written in the address, by names and never by numbers of this very page: a
// link shows the same after a reload, on another machine, and on the page made again.

/** View name → {defaults(), show(chosen)}; each view puts itself in. */
const views = {};
/** What was chosen in each view, where it is not the default. */
const given = {};
const now = { view: "leaderboard", theme: null, misses: [] };

function parseAddress(hash) {
  const [, view = "", query = ""] = hash.match(/^#\/([a-z]*)(?:\?(.*))?$/s) ?? [];
  return { view, chosen: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view; values that are undefined or null are left out. */
function addressOf(view, chosen = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(chosen)) {
    if (value !== undefined && value !== null) query.set(key, value);
  }
  if (now.theme) query.set("theme", now.theme);
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ""}`;
}

/** What a view shows: what was chosen, else its defaults; all values are text. */
function choice(view) {
  return { ...views[view].defaults(), ...given[view] };
}

function go(hash) {
  if (location.hash === hash) route();
  else location.hash = hash;
}

/** Keep what was chosen in the address, without drawing anything. */
function remember(view, changed) {
  const defaults = views[view].defaults();
  const all = { ...given[view], ...changed };
  given[view] = Object.fromEntries(
    Object.entries(all).filter(([key, value]) => value !== undefined && value !== null && value !== defaults[key]),
  );
  writeAddress();
}

/** Choose something in the view that is open, and show it. */
function alter(changed) {
  remember(now.view, changed);
  showView();
}

function writeAddress() {
  history.replaceState(null, "", addressOf(now.view, given[now.view]));
  for (const link of document.querySelectorAll("nav a")) {
    const view = link.dataset.view;
    link.setAttribute("href", addressOf(view, given[view]));
  }
}

/** Place of a name in a list; of one that is not there, the first place, and the reader is told. */
function placeOf(list, wanted, kind, otherwise = 0) {
  if (wanted === undefined || wanted === null || wanted === "") return otherwise;
  const place = list.indexOf(wanted);
  if (place >= 0) return place;
  missing(kind, wanted);
  return otherwise;
}

function missing(kind, wanted) {
  now.misses.push(`This page has no ${kind} “${shown(middleCut(wanted, 80))}”, which the address names.`);
}

function showView() {
  now.misses = [];
  views[now.view].show(choice(now.view));
  showNotice(now.misses);
}

function showNotice(sentences) {
  const notice = document.getElementById("notice");
  notice.hidden = sentences.length === 0;
  replace(notice, [...new Set(sentences)].map((text) => h("p", {}, text)));
}

/** Say something to everybody, screen readers included, for a moment. */
function announce(text) {
  const target = document.getElementById("announcement");
  target.textContent = text;
  clearTimeout(announce.later);
  announce.later = setTimeout(() => (target.textContent = ""), 4000);
}
