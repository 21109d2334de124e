// What the metrics mean.

/** Words between backticks as code. */
function codeMarked(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

function showDefinitions(focus = null) {
  const dialog = document.getElementById("definitions");
  const directions = { lower: "lower is better", higher: "higher is better", zero: "zero is best" };
  replace(
    document.getElementById("definitions-body"),
    h("p", { class: "muted" }, "p_ik is the probability of choice k of question i, K_i its number of choices, c_i = max_k p_ik its confidence, a_i = 1 if the prediction is gold, N the number of questions, n_b the number of entries in bin b."),
    doc.metrics.map((metric) =>
      h(
        "section",
        { id: `definition-${metric.name}`, tabindex: "-1" },
        h("h3", {}, metric.name),
        h("p", { class: "formula" }, metric.formula),
        h("p", {}, [directions[metric.direction], metric.source].filter(Boolean).join("; ")),
        metric.about.split(/\n\s*\n/).map((paragraph) => h("p", {}, codeMarked(paragraph.replace(/\s+/g, " ")))),
      ),
    ),
    h(
      "section",
      { id: "definition-bias-note", tabindex: "-1" },
      h("h3", {}, "Why a value may stand at the end of its interval"),
      h("p", {}, "A calibration error is a sum of sizes: chance alone makes it larger than zero, the more so the fewer questions there are in a bin. Of a calibrated model an ECE of .04 is nothing unusual at n = 1,000; ece_null is what such a model would show with these very confidences. The interval is of the true error: it reaches from values below the one measured, where the measured one owes something to chance, and rarely far above. Where the value lies within what a calibrated model would show, the page says that it cannot be told from calibrated."),
    ),
    h(
      "section",
      { id: "sce-note" },
      h("h3", {}, "SCE has two readings"),
      h("p", {}, "sce compares, for each choice position k, the mean probability in a bin with the share of entries whose gold is k (Nixon et al. 2019). A widely copied implementation compares it with the share for which [prediction = k] equals [gold = k], and so counts true negatives as hits: sce_ova. That is no calibration error: a perfect classifier scores 1 − 1/K, and it rises with accuracy and with confidence. The numbers published in “Does Alignment Tuning Really Break LLMs’ Internal Confidence?” (arXiv 2409.00352) are consistent with sce_ova, not with sce."),
    ),
  );
  dialog.showModal();
  const section = focus && document.getElementById(`definition-${focus}`);
  section?.scrollIntoView();
  section?.focus();
}
