// Which cases are shown. A filter that is "" lets everything pass.

const NO_FILTERS = {
  q: "", set: "", benchmark: "", label: "", of: "", outcome: "", type: "", severity: "", change: "",
};
const CLEAR_OF_DRIFT = ["no_drift", "not_screened"];

// The cases that pass, as places in `cases`. `haystacks` are made at the first search.
function passing(cases, filters, haystacks) {
  const terms = termsOf(filters.q);
  const found = [];
  cases.forEach((one, place) => {
    if (!passes(one, filters)) return;
    if (terms.length && !terms.every((term) => haystacks(place).includes(term))) return;
    found.push(place);
  });
  return found;
}

function passes(one, filters) {
  for (const key of ["set", "benchmark", "label"]) {
    if (filters[key] && one[key] !== filters[key]) return false;
  }
  if (filters.change && changeOf(one) !== filters.change) return false;
  if (!(filters.of || filters.outcome || filters.type || filters.severity)) return true;
  // Outcome, type and severity must hold of one and the same verdict.
  return Object.entries(one.audits).some(
    ([model, audit]) =>
      (!filters.of || model === filters.of) &&
      (!filters.outcome || audit.outcome === filters.outcome) &&
      (!filters.type || audit.type === filters.type) &&
      (!filters.severity || audit.severity === Number(filters.severity)),
  );
}

// What the repair did to a test question's drift; "" where a verdict is missing.
function changeOf(one) {
  const before = one.audits.M_int?.outcome;
  const after = one.audits.M_DART?.outcome;
  if (before === "drift" && after === "drift") return "remains";
  if (before === "drift" && CLEAR_OF_DRIFT.includes(after)) return "gone";
  if (CLEAR_OF_DRIFT.includes(before) && after === "drift") return "new";
  return "";
}

function termsOf(query) {
  return query.toLowerCase().split(/\s+/).filter(Boolean);
}

// Everything of a case that is read, in lower case.
function haystackOf(one) {
  const parts = [one.id, one.question, one.repair?.text];
  for (const answer of one.answers) parts.push(answer.analysis, answer.rest);
  for (const audit of Object.values(one.audits)) {
    parts.push(audit.reason, ...(audit.opinions ?? []).map((opinion) => opinion.reason));
  }
  return parts.filter(Boolean).join("\n").toLowerCase();
}

function makeHaystacks(cases) {
  const made = new Array(cases.length);
  return (place) => (made[place] ??= haystackOf(cases[place]));
}

// `#browse?set=test&case=test/D1-3` and back.
function readAddress() {
  const [view, query = ""] = location.hash.slice(1).split("?", 2);
  const given = Object.fromEntries(new URLSearchParams(query));
  const filters = { ...NO_FILTERS };
  for (const key of Object.keys(filters)) filters[key] = given[key] ?? "";
  return { view, filters, selected: given.case ?? "" };
}

function writeAddress(view, filters, selected) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(filters)) if (value) query.set(key, value);
  if (selected) query.set("case", selected);
  const text = String(query);
  history.replaceState(null, "", `#${view}${text ? `?${text}` : ""}`);
}
