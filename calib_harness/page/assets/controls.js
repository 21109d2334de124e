// Form controls, all native: they work with the keyboard and on a phone as they are.

let nextId = 0;

/** A labelled select. Options are [value, text]; `onchange` gets the chosen value. */
function choose(label, options, value, onchange) {
  const id = `control-${(nextId += 1)}`;
  const select = h("select", { id, change: () => onchange(select.value) });
  for (const [key, text] of options) {
    select.append(h("option", { value: key, selected: String(key) === String(value) }, shown(text)));
  }
  return h("div", { class: "control" }, h("label", { for: id }, label), select);
}

function search(label, value, oninput) {
  const id = `control-${(nextId += 1)}`;
  const input = h("input", { id, type: "search", value, autocomplete: "off" });
  input.addEventListener("input", () => oninput(input.value));
  return h("div", { class: "control grow" }, h("label", { for: id }, label), input);
}

/** Checkboxes behind a disclosure: which of many things to show. */
function chooseMany(label, options, chosen, onchange) {
  const boxes = options.map(([key, text]) => {
    const box = h("input", { type: "checkbox", value: key, checked: chosen.has(key) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(key);
      else chosen.delete(key);
      onchange();
    });
    return h("label", { class: "check" }, box, text);
  });
  return h(
    "details",
    { class: "control many" },
    h("summary", {}, label),
    h("fieldset", {}, h("legend", { class: "sr" }, label), boxes),
  );
}

function check(label, checked, onchange) {
  const box = h("input", { type: "checkbox", checked });
  box.addEventListener("change", () => onchange(box.checked));
  return h("label", { class: "check control" }, box, label);
}

/** Options of a select for things of which the document holds a list. */
function optionsFor(list, all = null) {
  const options = list.map((text, i) => [i, text]);
  return all && list.length > 1 ? [[-1, all], ...options] : options;
}

function distinct(values) {
  return [...new Set(values)].filter((value) => value !== "").sort();
}
