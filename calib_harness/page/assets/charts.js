// What all charts share: colours of the theme, layout, and the numbers behind them as a table.

function colour(variable) {
  return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
}

const PLOT_CONFIG = {
  displaylogo: false,
  responsive: true,
  scrollZoom: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  toImageButtonOptions: { format: "svg", filename: "calibration" },
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
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: 11 } },
    hovermode: "closest",
    dragmode: false,
    ...extra,
  };
}

/**
 * A card: heading, what it shows, chart, and its numbers as a table for those who read tables.
 * `draw(plot)` returns {traces, layout, table, height} or a string that says why there is none.
 */
function card(title, about, draw, extra = {}) {
  const plot = h("div", { class: "plot" });
  const notes = h("div", { class: "notes" });
  const figure = h(
    "figure",
    { class: `card ${extra.wide ? "wide" : ""}`, "aria-label": title, id: extra.id },
    h("figcaption", {}, h("h3", {}, title), h("p", { class: "muted" }, about)),
    plot,
    notes,
  );
  figure.draw = async () => {
    const result = await draw();
    if (typeof result === "string") {
      Plotly.purge(plot);
      replace(plot, h("p", { class: "empty" }, result));
      plot.style.height = "";
      replace(notes);
      return;
    }
    plot.querySelector(".empty")?.remove();
    plot.style.height = `${result.height ?? 380}px`;
    await Plotly.react(plot, result.traces, baseLayout(result.layout), PLOT_CONFIG);
    const open = notes.querySelector("details")?.open;
    replace(
      notes,
      result.note ?? null,
      result.table && h("details", { open }, h("summary", {}, "Numbers"), result.table),
    );
  };
  return figure;
}
