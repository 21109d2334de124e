// What all charts share: colours of the theme, layout, the numbers behind them, and ways out.

let ink = null; // an element whose theme charts are drawn in; the page's own where null

function colour(variable) {
  return getComputedStyle(ink ?? document.documentElement).getPropertyValue(variable).trim();
}

const PLOT_CONFIG = {
  // The library's own bar of tools offers to upload the chart: there is none.
  displayModeBar: false,
  displaylogo: false,
  showLink: false,
  sendData: false,
  showSendToCloud: false,
  showEditInChartStudio: false,
  plotlyServerURL: "",
  responsive: true,
  scrollZoom: false,
  doubleClick: false,
};

function axis(title, extra = {}) {
  return {
    title: { text: title, font: { size: 12 } },
    gridcolor: colour("--grid"),
    linecolor: colour("--line"),
    zerolinecolor: colour("--line"),
    tickfont: { size: 11 },
    automargin: true,
    ...extra,
  };
}

function baseLayout(extra = {}) {
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 16, t: 28, b: 48 },
    hoverlabel: { bgcolor: colour("--panel"), font: { color: colour("--text") } },
    // Above: below it would lie on the ticks' names, which turn and grow on a narrow screen.
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: 11 }, itemclick: false, itemdoubleclick: false, traceorder: "normal" },
    hovermode: "closest",
    dragmode: false,
    ...extra,
  };
}

/** Range of an axis that holds all values and zero, with room at both ends. */
function rangeWithZero(values) {
  const known = values.filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const room = 0.06 * (high - low || 1);
  return [low - room, high + room];
}

let drawing = Promise.resolve(); // charts are drawn one after the other: each in one theme

function inTurn(act) {
  const done = drawing.then(act);
  drawing = done.catch(() => {});
  return done;
}

/**
 * A card: heading, what it shows, chart, its numbers as a table, and ways to take both out.
 * `draw()` returns a string that says why there is no chart, or {traces, layout, height, table,
 * note, open, openTick, hover}: `table` as data, `open(point)` and `openTick(value)` the
 * address of what a mark, or a name on the vertical axis, stands for.
 */
function card(title, about, draw, { id, wide = false, file = () => [] } = {}) {
  const plot = h("div", { class: "plot" });
  const notes = h("div", { class: "notes" });
  const parts = () => [id, ...file()];
  let latest = null;
  let listening = false;
  const actions = [
    ["Save as SVG", () => savePicture("svg")],
    ["Save as PNG", () => savePicture("png")],
    ...tableActions(() => ({ title, ...latest.table }), parts),
  ];
  const whenDrawn = (act) => () => (latest ? act() : announce("This chart is not drawn yet."));
  const menu = takeOut(title, actions.map(([text, act]) => [text, whenDrawn(act)]));
  menu.hidden = true;
  const figure = h(
    "figure",
    { class: `card ${wide ? "wide" : ""}`, "aria-label": title, id },
    h("figcaption", {}, h("div", { class: "card-head" }, h("h3", {}, title), menu), h("p", { class: "muted" }, about)),
    plot,
    notes,
  );

  async function savePicture(format) {
    const size = { width: wide ? 1000 : 640, height: latest.height ?? 380 };
    const picture = await inTurn(async () => {
      ink = document.getElementById("paper");
      try {
        const found = await draw();
        const layout = baseLayout({ ...found.layout, ...size, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff" });
        return await Plotly.toImage({ data: found.traces, layout }, { format, ...size, scale: format === "png" ? 3 : 1 });
      } finally {
        ink = null;
      }
    });
    const content = format === "svg" ? decodeURIComponent(picture.slice(picture.indexOf(",") + 1)) : bytesOf(picture);
    saveFile(fileName(["calibration", ...parts()], format), content, format === "svg" ? "image/svg+xml" : "image/png");
  }

  /** A disclosure that stays open when its chart, or its whole view, is drawn again. */
  function disclosed(table) {
    const key = `numbers of ${id}`;
    const details = h("details", { open: opened.has(key) }, h("summary", {}, "Numbers"), table);
    details.addEventListener("toggle", () => (details.open ? opened.add(key) : opened.delete(key)));
    return details;
  }

  function listen() {
    if (listening) return;
    listening = true;
    plot.on("plotly_click", (event) => {
      const to = latest?.open?.(event.points[0]);
      if (to) go(to);
    });
    plot.on("plotly_hover", (event) => latest?.hover?.(plot, event.points[0].curveNumber));
    plot.on("plotly_unhover", () => latest?.hover?.(plot, null));
  }
  plot.addEventListener("click", (event) => {
    const tick = event.target.closest?.(".ytick, .y2tick");
    const to = tick && latest?.openTick?.(tick.__data__?.x ?? tick.querySelector("text").__data__.x);
    if (to) go(to);
  });

  figure.draw = () =>
    inTurn(async () => {
      if (!figure.isConnected || figure.closest("section[hidden]")) return; // the reader has gone on
      const result = await draw();
      latest = typeof result === "string" ? null : result;
      menu.hidden = latest === null;
      figure.hidden = result === ABSENT;
      if (latest === null) {
        Plotly.purge(plot);
        listening = false;
        replace(plot, h("p", { class: "empty" }, result));
        plot.style.height = "";
        replace(notes);
        return;
      }
      plot.querySelector(".empty")?.remove();
      plot.style.height = `${result.height ?? 380}px`;
      plot.classList.toggle("opens", Boolean(result.open));
      plot.classList.toggle("opens-ticks", Boolean(result.openTick));
      await Plotly.react(plot, result.traces, baseLayout(result.layout), PLOT_CONFIG);
      listen();
      const table = result.table && plainTable({ title, ...result.table });
      if (table && result.hover) highlightByRow(table, plot, result.hover);
      replace(
        notes,
        result.note ?? null,
        table && (result.tableOpen ? table : disclosed(table)),
      );
    });
  return figure;
}

/** A chart's card that is not shown at all: there is nothing that it could ever hold. */
const ABSENT = "absent";

/** Rows of the table beside a chart bring out their line: by mouse, and by keyboard. */
function highlightByRow(table, plot, hover) {
  for (const [i, row] of [...table.querySelectorAll("tbody tr")].entries()) {
    row.tabIndex = 0;
    for (const on of ["focus", "mouseenter"]) row.addEventListener(on, () => hover(plot, i));
    for (const off of ["blur", "mouseleave"]) row.addEventListener(off, () => hover(plot, null));
  }
}

function bytesOf(dataUrl) {
  return Uint8Array.from(atob(dataUrl.slice(dataUrl.indexOf(",") + 1)), (sign) => sign.charCodeAt(0));
}
