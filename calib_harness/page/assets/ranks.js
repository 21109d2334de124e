// Ranks of pairs across tasks: do the tasks agree on whom alignment changed most?

const MOST_COLOURED = 12; // lines beyond which colours and dashes would repeat

function bumpChart() {
  if (doc.pairs.length === 0 || doc.tasks.length === 1) return ABSENT;
  const found = currentChanges({ anyTask: true }).filter((c) => c.rank !== null);
  const { tasks, grid, labels } = changeGrid(found);
  if (tasks.length < 2 || grid.length < 2) return "Ranks can be compared once at least two pairs were measured on two tasks.";
  const order = grid.map((row, k) => ({ row, k, mean: meanRank(row) })).sort((a, b) => a.mean - b.mean);
  const traces = order.map(({ row, k }, place) => bumpTrace(row, place, labels[k], order.length));
  const slots = endSlots(order.map(({ row }) => row));
  const last = tasks.length - 1;
  return {
    traces: [...traces, ...endLines(order, slots, last)],
    height: Math.max(320, 140 + 20 * grid.length),
    layout: {
      xaxis: taskAxis(tasks, { range: [-0.3, last + 0.35] }),
      yaxis: axis("rank", { range: [grid.length + 0.7, 0.3], dtick: grid.length > 20 ? 5 : 1, tick0: grid.length > 20 ? 0 : 1 }),
      yaxis2: {
        ...axis("", { overlaying: "y", side: "right", range: [grid.length + 0.7, 0.3], showgrid: false }),
        tickvals: slots,
        ticktext: order.map(({ k }) => labels[k]),
        ticks: "",
      },
      showlegend: false,
    },
    hover: highlight(order.length),
    open: ({ curveNumber, x }) => addressOfChange(order[curveNumber % order.length].row[Math.min(Math.round(x), last)] ?? onTask(order[curveNumber % order.length].row)),
    openTick: (slot) => (slots.includes(slot) ? addressOfChange(onTask(order[slots.indexOf(slot)].row)) : null),
    note: agreementNote(),
    tableOpen: true,
    table: {
      columns: ["pair", "mean rank", ...tasks.map((t) => doc.tasks[t])],
      rows: order.map(({ row, mean }) => [changeName(row.find(Boolean)), fixed(mean, 1), ...row.map((c) => String(c?.rank ?? ""))]),
    },
  };
}

function meanRank(row) {
  const ranks = row.filter(Boolean).map((c) => c.rank);
  return ranks.reduce((sum, rank) => sum + rank, 0) / ranks.length;
}

/** A place for each line's name at the right end: ties share a rank, so names go to the free ones. */
function endSlots(rows) {
  const ends = rows.map((row) => [...row].reverse().find(Boolean).rank);
  const slots = Array(rows.length);
  ends.map((rank, i) => [rank, i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).forEach(([, i], place) => (slots[i] = place + 1));
  return slots;
}

/** Thin lines from where a line ends to its name. */
function endLines(order, slots, last) {
  return order.map(({ row }, i) => ({
    x: [last, last + 0.35],
    y: [row[last]?.rank ?? null, slots[i]],
    mode: "lines",
    line: { color: colour("--line"), width: 1 },
    hoverinfo: "skip",
    showlegend: false,
    yaxis: i === 0 ? "y2" : "y", // an axis is drawn only if something lies on it
  }));
}

/** Bring one line out, its end too, and put the others back; all as they were for null. */
function highlight(count) {
  return (plot, curve) => {
    const chosen = curve === null ? null : curve % count;
    const strong = (i) => chosen === null || i % count === chosen;
    const all = Array.from({ length: 2 * count }, (_, i) => i);
    Plotly.restyle(plot, { opacity: all.map((i) => (strong(i) ? 1 : 0.15)), "line.width": all.map((i) => (i >= count ? 1 : chosen === i ? 4 : count > MOST_COLOURED ? 1.3 : 2)) });
  };
}

function bumpTrace(row, place, label, count) {
  const tone = colour(`--series-${(place % 6) + 1}`);
  return {
    x: row.map((_, i) => i),
    y: row.map((c) => c?.rank ?? null),
    mode: "lines+markers",
    line: { color: tone, width: count > MOST_COLOURED ? 1.3 : 2, dash: place % MOST_COLOURED < 6 ? "solid" : "dash" },
    marker: { size: 8, color: tone },
    opacity: 1,
    name: label,
    text: row.map((c) => (c ? `${label}<br>${plotText(doc.tasks[c.task])}: rank ${c.rank}, ${signed(c.change)}` : "")),
    hovertemplate: "%{text}<extra></extra>",
  };
}

function agreementNote() {
  const agreement = doc.agreement.find(
    (row) => row.method === doc.methods[comparison.method] && row.metric === comparison.metric,
  );
  if (!agreement || agreement.kendalls_w === null) return null;
  return h("p", {}, `All families: Kendall's W ${fixed(agreement.kendalls_w)} over ${plural(agreement.n_pairs, "pair")} and ${plural(agreement.n_tasks, "task")} (permutation p = ${pValue(agreement.p_value)}), mean pairwise τ ${fixed(agreement.mean_tau ?? NaN)}.`);
}
