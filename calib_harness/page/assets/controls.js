// Form controls, all native: they work with the keyboard and on a phone as they are.

let nextId = 0;

/** A labelled select. Options are [value, text]; `onchange` gets the chosen value. */
function choose(label, options, value, onchange) {
  const id = `control-${(nextId += 1)}`;
  const select = h("select", { id, change: () => onchange(select.value) });
  for (const [key, text] of options) {
    select.append(h("option", { value: key, selected: String(key) === String(value) }, shown(middleCut(text, 90))));
  }
  return h("div", { class: "control", "data-control": label }, h("label", { for: id }, label), select);
}

function search(label, value, oninput) {
  const id = `control-${(nextId += 1)}`;
  const input = h("input", { id, type: "search", value, autocomplete: "off" });
  input.addEventListener("input", () => oninput(input.value));
  return h("div", { class: "control grow", "data-control": label }, h("label", { for: id }, label), input);
}

const opened = new Set(); // disclosures that are open stay so when their controls are drawn again

/** Checkboxes behind a disclosure: which of many things to show. */
function chooseMany(label, options, chosen, onchange) {
  const boxes = options.map(([key, text]) => {
    const box = h("input", { type: "checkbox", value: key, checked: chosen.has(key) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(key);
      else chosen.delete(key);
      onchange([...chosen]);
    });
    return h("label", { class: "check" }, box, text);
  });
  const details = h(
    "details",
    { class: "control many", open: opened.has(label), "data-control": label },
    h("summary", {}, label),
    h("fieldset", {}, h("legend", { class: "sr" }, label), boxes),
  );
  details.addEventListener("toggle", () => (details.open ? opened.add(label) : opened.delete(label)));
  closeOnEscape(details);
  return details;
}

function check(label, checked, onchange) {
  const box = h("input", { type: "checkbox", checked });
  box.addEventListener("change", () => onchange(box.checked));
  return h("label", { class: "check control", "data-control": label }, box, label);
}

function closeOnEscape(details) {
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !details.open) return;
    details.open = false;
    details.querySelector("summary").focus();
    event.stopPropagation();
  });
}

/** Put controls in place of those before them; what had the focus, and its caret, keeps it. */
function replaceControls(parent, ...controls) {
  const active = parent.contains(document.activeElement) ? document.activeElement : null;
  const label = active?.closest("[data-control]")?.dataset.control;
  const place = label && [...active.closest("[data-control]").querySelectorAll("select, input, summary")].indexOf(active);
  const caret = active?.type === "search" ? active.selectionStart : null;
  replace(parent, controls);
  if (!label) return;
  const again = [...parent.querySelectorAll("[data-control]")].find((c) => c.dataset.control === label);
  const field = again?.querySelectorAll("select, input, summary")[place];
  field?.focus({ preventScroll: true });
  if (caret !== null) field?.setSelectionRange(caret, caret);
}

/** Options of a select for things of which the document holds a list: their names. */
function named(list, all = null) {
  const options = list.map((text) => [text, text]);
  return all && list.length > 1 ? [["", all], ...options] : options;
}

function distinct(values) {
  return [...new Set(values)].filter((value) => value !== "").sort();
}

/** A choice among buttons of which one is pressed. */
function segments(label, options, value, onchange) {
  const buttons = options.map(([key, text]) =>
    h("button", { type: "button", "aria-pressed": String(key === value), click: () => onchange(key) }, text),
  );
  return h("div", { class: "control", role: "group", "aria-label": label, "data-control": label }, h("span", { class: "label" }, label), h("div", { class: "segments" }, buttons));
}
