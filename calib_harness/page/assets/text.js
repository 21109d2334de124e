// Text and elements. Whatever comes from logs enters the page through here, as text.

/** Characters that would reorder, hide or break the text around them, made visible. */
function shown(text) {
  return String(text).replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (sign) => `⟨U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

/** An element with attributes, properties (functions) and children; strings become text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(2).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** A name from a log: isolated, so that its direction does not spread. */
function name(text, attributes = {}) {
  return h("bdi", attributes, shown(text));
}

const TAIL = 10; // signs at the end of a name that are never cut off: they tell base from aligned

/**
 * A name that may have less room than it needs: what is cut off is its middle, and the whole
 * name is told on hovering. Beyond `most` signs it is shortened at once.
 */
function cutName(text, { most = Infinity, ...attributes } = {}) {
  const whole = shown(text);
  const signs = Array.from(middleCut(whole, most));
  const parts =
    signs.length <= 2 * TAIL
      ? [signs.join("")]
      : [
          h("span", { class: "head" }, signs.slice(0, -TAIL).join("")),
          h("span", { class: "tail" }, signs.slice(-TAIL).join("")),
        ];
  return h("bdi", { class: "cut", title: whole, ...attributes }, parts);
}

function middleCut(text, most) {
  const signs = Array.from(text);
  if (signs.length <= most) return text;
  const tail = Math.floor((most - 1) / 2);
  return [...signs.slice(0, most - 1 - tail), "…", ...signs.slice(-tail)].join("");
}

function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(2).filter(Boolean));
}

/** Text for Plotly, which reads a little HTML and TeX: both switched off, long names lose their middle. */
function plotText(text, most = 32) {
  const cut = middleCut(shown(text), most);
  return cut.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;");
}

/** Names as Plotly shows them: cut, but no two different ones alike. */
function plotNames(texts, most = 32) {
  const different = new Set(texts).size;
  for (let room = most; room <= 4 * most; room += 8) {
    const names = texts.map((text) => plotText(text, room));
    if (new Set(names).size === different) return names;
  }
  const seen = [...new Set(texts)];
  return texts.map((text) => `${plotText(text, most)} (${seen.indexOf(text) + 1})`);
}

/** Fixed decimals, printed as Python prints them: exact ties go to the even digit. */
function fixed(value, digits = 3) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "" : value > 0 ? "∞" : "−∞";
  const scale = 10 ** digits;
  const below = Math.floor(Math.abs(value) * scale);
  // Only numbers with a short binary fraction can lie exactly half way.
  const tie = Number.isInteger(value * 2 ** (digits + 1)) && Math.abs(value) * scale - below === 0.5;
  const magnitude = tie ? (below % 2 ? below + 1 : below) / scale : Math.abs(value);
  const text = magnitude.toFixed(digits);
  return value < 0 ? `−${text}` : text;
}

function signed(value) {
  return value > 0 ? `+${fixed(value)}` : fixed(value);
}

function interval(low, high) {
  return Number.isNaN(low) ? "" : `[${fixed(low)}, ${fixed(high)}]`;
}

function pValue(value) {
  if (value === null || Number.isNaN(value)) return "";
  return value >= 0.001 ? fixed(value) : value.toExponential(1).replace(/e-(\d)$/, "e-0$1");
}

function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

/** A probability so small that it would print as zero says so. */
function probability(value) {
  if (Number.isNaN(value)) return "–";
  return value > 0 && value < 0.0005 ? "<0.001" : fixed(value);
}
