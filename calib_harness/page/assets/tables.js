// Tables that sort: rows lead where they say, headings work with the keyboard.

/**
 * A table of rows (objects with `href`, where a row leads somewhere). A column may say how its
 * cells read as text, `words(row)`, and which columns of numbers they are in a file, `csv(row)`.
 */
function makeTable(target, label, rows, columns, { file = [], sort = null, onsort = null } = {}) {
  const element = h("div", {});
  const menu = takeOut(label, tableActionsOf(label, () => table, columns, file));
  target.append(h("div", { class: "table-head" }, menu), element);
  const table = new Tabulator(element, {
    data: rows,
    columns: columns.map(drawnColumn),
    layout: "fitDataFill",
    maxHeight: rows.length > 30 ? "75vh" : false,
    columnDefaults: { resizable: false, headerHozAlign: "left" },
    initialSort: sort && flatColumns(columns).some((c) => c.field === sort.column) ? [sort] : [],
    placeholder: "Nothing to show",
    rowFormatter: (row) => {
      const { href, chosen } = row.getData();
      row.getElement().classList.toggle("leads", href !== undefined);
      row.getElement().classList.toggle("chosen", Boolean(chosen));
    },
  });
  table.on("tableBuilt", () => {
    mendRoles(element, label);
    table.built = true;
  });
  table.on("dataSorted", (sorters) => {
    if (!table.built || !onsort) return;
    onsort(sorters.length ? `${sorters[0].field},${sorters[0].dir}` : null);
  });
  table.on("rowClick", (event, row) => {
    const { href } = row.getData();
    if (href !== undefined && !event.target.closest("a, button") && !window.getSelection().toString()) go(href);
  });
  return table;
}

/** A column without what is ours: how it reads as text, and in a file. */
function drawnColumn({ name: _, words, csv, columns: inner, ...rest }) {
  return inner ? { ...rest, columns: inner.map(drawnColumn) } : rest;
}

function flatColumns(columns) {
  return columns.flatMap((c) => (c.columns ? c.columns.map((inner) => ({ ...inner, group: c.name })) : [c]));
}

/** What of a table can be taken out: as it is sorted at the moment. */
function tableActionsOf(label, table, columns, file) {
  const flat = flatColumns(columns);
  const title = (c) => [c.group, c.name ?? c.title].filter(Boolean).join(" ");
  const rows = () => table().getData("active");
  const asRead = () => ({ title: label, columns: flat.map(title), rows: rows().map((row) => flat.map((c) => wordsOf(c, row))) });
  const asNumbers = () => {
    const cells = (row) => flat.flatMap((c) => (c.csv ? c.csv(row) : [[title(c), wordsOf(c, row)]]));
    const all = rows();
    return { title: label, columns: all.length ? cells(all[0]).map(([key]) => key) : [], rows: all.map((row) => cells(row).map(([, value]) => value)) };
  };
  const [csv, ...others] = tableActions(asRead, () => [label, ...file]);
  return [
    [csv[0], () => copyText(toCsv(asNumbers()), "Table as CSV")],
    ...others.slice(0, -1),
    ["Save as CSV", () => saveFile(fileName(["calibration", label, ...file], "csv"), `\ufeff${toCsv(asNumbers())}`, "text/csv;charset=utf-8")],
  ];
}

function wordsOf(columnOf, row) {
  return columnOf.words ? columnOf.words(row) : String(row[columnOf.field] ?? "");
}

/** Tabulator's roles do not all exist, and its grid owns the rows past the element between. */
function mendRoles(element, label) {
  element.setAttribute("aria-label", label);
  element.removeAttribute("aria-owns");
  element.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
  element.querySelector(".tabulator-table").removeAttribute("role");
  for (const group of element.querySelectorAll(".tabulator-col-group")) {
    group.setAttribute("role", "presentation");
    group.removeAttribute("aria-sort");
    group.removeAttribute("aria-title");
  }
}

/** A column heading that sorts, by mouse or keyboard: Tabulator's own needs a mouse. */
function heading(text, { spoken = null, define = null } = {}) {
  return () =>
    h(
      "span",
      { class: "head-cell" },
      h("button", { type: "button", class: "sort", "aria-label": spoken }, text),
      define &&
        h(
          "button",
          {
            type: "button",
            class: "define",
            "aria-label": `What ${define} means`,
            click: (event) => {
              event.stopPropagation();
              showDefinitions(define);
            },
          },
          "?",
        ),
    );
}

function column(title, field, extra = {}) {
  return { title, name: title, field, titleFormatter: heading(title), ...extra };
}

const isNarrow = () => window.innerWidth <= 700;

/** A column of names; `href(row)` is where each leads. */
function nameColumn(title, field, { href = null, ...extra } = {}) {
  const most = isNarrow() ? 44 : Infinity;
  return column(title, field, {
    formatter: (cell) => {
      const label = cutName(cell.getValue() ?? "", { most });
      const to = href?.(cell.getData());
      return to ? h("a", { class: "cell-link", href: to }, label) : label;
    },
    ...extra,
  });
}

function frozenName(title, field, href) {
  return nameColumn(title, field, { href, frozen: true, minWidth: isNarrow() ? 110 : 150, maxWidth: isNarrow() ? 140 : 340 });
}

const byNumber = (a, b) => (Number.isNaN(a) ? -Infinity : a) - (Number.isNaN(b) ? -Infinity : b);

/** "field,dir" as Tabulator takes it. */
function sortOf(text) {
  const [field, dir] = String(text ?? "").split(/,(?=asc$|desc$)/);
  return field && dir ? { column: field, dir } : null;
}
