// Out of the page and into a paper: tables as CSV, Markdown and LaTeX, charts as SVG and PNG.

/**
 * A table as data: {title, columns: [text], rows: [[cell]]}; a cell is text, or {text, href} for
 * a name that leads somewhere.
 */
const cellText = (cell) => (cell && typeof cell === "object" ? cell.text : String(cell ?? ""));

/** Numbers as programs read them: the page's minus is a sign of its own. */
const plainSigns = (text) => text.replace(/−(?=[\d.∞])/g, "-");

function toCsv({ columns, rows }) {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const line = (cells) => cells.map((cell) => quoted(guarded(plainSigns(cellText(cell))))).join(",");
  return `${[columns, ...rows].map(line).join("\n")}\n`;
}

/** Spreadsheets run what starts like a formula; numbers and plain names stay as they are. */
function guarded(text) {
  return /^[=+@\t\r-]/.test(text) && !/^[+-]?(\d|\.\d|∞)/.test(text) ? `'${text}` : text;
}

function toMarkdown({ title, columns, rows }) {
  const clean = (cell) => cellText(cell).replace(/([\\`*_[\]<>|#~$])/g, "\\$1").replace(/\s+/g, " ");
  const line = (cells) => `| ${cells.map(clean).join(" | ")} |`;
  const rule = `|${columns.map((_, i) => (isNumeric(rows, i) ? "---:" : "---")).join("|")}|`;
  return `${clean(title)}\n\n${[line(columns), rule, ...rows.map(line)].join("\n")}\n`;
}

const LATEX_SIGNS = {
  "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_",
  "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
  '"': "\\textquotedbl{}", "[": "{[}", "]": "{]}", // a bracket after a line's end would be its option
  "−": "$-$", "±": "$\\pm$", "→": "$\\to$", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "≤": "$\\leq$", "≥": "$\\geq$",
  "∞": "$\\infty$", "τ": "$\\tau$", "×": "$\\times$", "·": "$\\cdot$", "–": "\\textendash{}", "…": "\\dots{}", "“": "``", "”": "''", "’": "'", "`": "\\textasciigrave{}", "\u00a0": "~",
};

/** Text for LaTeX; signs that not every engine has become their number. */
function latexText(text) {
  return Array.from(text.replace(/\s+/g, " "), (sign) => {
    if (LATEX_SIGNS[sign]) return LATEX_SIGNS[sign];
    const code = sign.codePointAt(0);
    return (code >= 32 && code < 127) || (code >= 0xc0 && code <= 0xff && code !== 0xd0 && code !== 0xf0 && code !== 0xd7 && code !== 0xf7)
      ? sign
      : `\\texttt{U+${code.toString(16).toUpperCase().padStart(4, "0")}}`;
  }).join("").replace(/-(?=-)/g, "-{}"); // two hyphens would become a dash
}

function toLatex({ title, columns, rows }) {
  const line = (cells) => `${cells.map((cell) => latexText(cellText(cell))).join(" & ")} \\\\`;
  return [
    "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
    "\\begin{table}",
    "\\centering",
    `\\caption{${latexText(title)}}`,
    `\\begin{tabular}{${columns.map((_, i) => (isNumeric(rows, i) ? "r" : "l")).join("")}}`,
    "\\toprule",
    line(columns),
    "\\midrule",
    ...rows.map(line),
    "\\bottomrule",
    "\\end{tabular}",
    "\\end{table}",
    "",
  ].join("\n");
}

function isNumeric(rows, i) {
  const texts = rows.map((row) => cellText(row[i])).filter((text) => text !== "" && text !== "–");
  return texts.length > 0 && texts.every((text) => /^[(<]?[+−-]?[\d.∞]/.test(text));
}

const FORMS = [
  ["CSV", toCsv],
  ["Markdown", toMarkdown],
  ["LaTeX", toLatex],
];

async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
  } catch {
    offerText(text, what); // this browser lets no page write to the clipboard
  }
}

/** Text to be copied by hand. */
function offerText(text, what) {
  const dialog = document.getElementById("by-hand");
  const area = dialog.querySelector("textarea");
  dialog.querySelector("h2").textContent = `${what}: copy it from here`;
  area.value = text;
  dialog.showModal();
  area.select();
}

function saveFile(name, content, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  announce(`${name} saved`);
}

/** A file's name from what it shows: parts that are given, letters and digits only. */
function fileName(parts, suffix) {
  const clean = parts
    .filter((part) => part !== undefined && part !== null && part !== "")
    .map((part) => String(part).normalize("NFKD").replace(/[^A-Za-z0-9.+-]+/g, "-").replace(/^[-.]+|[-.]+$/g, ""))
    .filter(Boolean)
    .map((part) => middleCut(part, 48).replace("…", "--"));
  return `${clean.join("_") || "calibration"}.${suffix}`;
}

/** A disclosure with what can be taken out: `actions` are [text, function]. */
function takeOut(label, actions) {
  const details = h(
    "details",
    { class: "menu" },
    h("summary", { "aria-label": `${label}: copy or save` }, "Copy or save"),
    h(
      "div",
      { class: "menu-list" },
      actions.map(([text, act]) =>
        h("button", { type: "button", click: async () => { details.open = false; await act(); } }, text),
      ),
    ),
  );
  details.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !details.contains(event.relatedTarget)) details.open = false;
  });
  closeOnEscape(details);
  return details;
}

/** Actions of a table: `data` gives it when it is asked for, `parts` what its file is called. */
function tableActions(data, parts) {
  return [
    ...FORMS.map(([form, write]) => [`Copy as ${form}`, () => copyText(write(data()), `Table as ${form}`)]),
    ["Save as CSV", () => saveFile(fileName(["calibration", ...parts()], "csv"), `\ufeff${toCsv(data())}`, "text/csv;charset=utf-8")],
  ];
}

/** The table itself. */
function plainTable(data) {
  const cell = (one) =>
    one && typeof one === "object"
      ? one.href
        ? h("a", { href: one.href }, name(one.text))
        : name(one.text)
      : shown(String(one ?? ""));
  const head = h("tr", {}, data.columns.map((column) => h("th", { scope: "col" }, shown(column))));
  const body = data.rows.map((row) => h("tr", {}, row.map((one) => h("td", {}, cell(one)))));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": data.title },
    h("table", {}, h("caption", {}, shown(data.title)), h("thead", {}, head), h("tbody", {}, body)),
  );
}
