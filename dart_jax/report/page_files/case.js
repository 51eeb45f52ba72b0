// One case: the question, the models' answers side by side, and what the audits made of them.

function drawCase(article, one, terms, below) {
  if (!one) {
    article.replaceChildren(make("p", { class: "note" }, "No case passes the filters."));
    return;
  }
  const where = one.set === "pool" ? "drift pool" : "test";
  const facts = `${one.benchmark} · ${one.label}, right answer ${one.gold} · ${where}`;
  const columns = one.answers.map((answer) => answerColumn(one, answer, terms));
  if (one.repair) columns.push(repairColumn(one.repair, terms));
  article.replaceChildren(
    make("header", {}, make("h2", {}, one.id), make("p", { class: "facts" }, facts)),
    textBlock("question", marked(one.question, [], terms)),
    make("div", { class: `answers of-${columns.length}` }, ...columns),
    ...(below ? [below] : []),
  );
}

function textBlock(kind, parts) {
  return make("div", { class: `text ${kind}`, dir: "auto" }, ...parts);
}

function answerColumn(one, answer, terms) {
  const audit = one.audits[answer.model];
  const passages = passagesIn(one, answer.model);
  return make(
    "section",
    { class: `answer model-${answer.model}`, "aria-label": answer.model },
    make("h3", {}, answer.model, " ", decisionTag(one, answer)),
    make("p", { class: "scores" }, scoreWords(answer, audit)),
    textBlock("analysis", marked(answer.analysis, passages, terms)),
    answer.rest ? textBlock("rest", marked(answer.rest, [], terms)) : null,
    audit ? verdictBlock(audit, answer, passages) : null,
  );
}

function repairColumn(repair, terms) {
  return make(
    "section",
    { class: "answer repair", "aria-label": "Repair target" },
    make("h3", {}, "Repair target"),
    make("p", { class: "scores" }, `weight ${repair.weight}`),
    textBlock("analysis", marked(repair.text, [], terms)),
  );
}

function decisionTag(one, answer) {
  if (!answer.decision) {
    return make("span", { class: "tag wrong", title: answer.unparseable }, "unparseable");
  }
  const right = answer.decision === one.gold;
  const words = `${answer.decision}, ${right ? "right" : "wrong"}`;
  return make("span", { class: `tag ${right ? "right" : "wrong"}` }, words);
}

function scoreWords(answer, audit) {
  const scores = answer.scores.map(([name, value]) => `${name} ${value.toFixed(3)}`).join(", ");
  if (!audit) return `harm: ${scores}`;
  const sign = audit.delta < 0 ? "−" : "+";
  return `harm: ${scores} (Δ ${sign}${Math.abs(audit.delta).toFixed(3)})`;
}

// The passages that a judge quoted from this model's text; of M0's, in any audit.
function passagesIn(one, model) {
  const found = new Set();
  for (const [candidate, audit] of Object.entries(one.audits)) {
    if (candidate === model) (audit.passages ?? []).forEach((passage) => found.add(passage));
    for (const opinion of audit.opinions ?? []) {
      const owner = { baseline: "M0", candidate }[opinion.worse];
      if (owner === model && opinion.passage) found.add(opinion.passage);
    }
  }
  return [...found];
}

function verdictBlock(audit, answer, passages) {
  const absent = passages.filter((passage) => {
    const pattern = patternOf(passage);
    return pattern && !rangesOf(answer.analysis, [pattern]).length;
  });
  return make(
    "div",
    { class: "verdict" },
    make("p", {}, outcomeTag(audit), audit.judge ? make("span", { class: "judge" }, audit.judge) : null),
    audit.reason ? textBlock("reason", [audit.reason]) : null,
    ...absent.map((passage) => textBlock("reason", ["Quoted, but not found in the text: ", passage])),
    audit.opinions?.length ? opinionList(audit) : null,
  );
}

function outcomeTag(audit) {
  const kind = audit.outcome === "drift" ? `drift severity-${audit.severity}` : audit.outcome;
  return make("span", { class: `tag ${kind}` }, outcomeWords(audit));
}

function outcomeWords(audit) {
  if (audit.outcome !== "drift") return OUTCOMES[audit.outcome];
  // Where the scorer alone decided, nobody told a type.
  return `${audit.type ?? "type not judged"}, ${SEVERITIES[audit.severity - 1]}`;
}

function opinionList(audit) {
  const rows = audit.opinions.map((opinion) => {
    const order = opinion.first === "baseline" ? "M0 shown first" : "M0 shown second";
    const worse = { baseline: "M0 worse", candidate: "audited model worse", neither: "neither worse" };
    const fault = opinion.type ? ` (${opinion.type}, ${SEVERITIES[opinion.severity - 1]})` : "";
    const said = `${order}: ${worse[opinion.worse]}${fault}`;
    return make("li", {}, said, opinion.reason ? textBlock("reason", [opinion.reason]) : null);
  });
  // An uncertain pair is understood by its opinions; of a verdict they are detail.
  const open = audit.outcome === "uncertain" ? "" : null;
  const list = make("ul", {}, ...rows);
  return make("details", { open }, make("summary", {}, "Both orders of the judge"), list);
}
