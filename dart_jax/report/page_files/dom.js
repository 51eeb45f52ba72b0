// Elements from data. Text enters the document as text nodes only: what a model wrote is never
// markup (the page's policy makes the browser refuse it besides).

const byId = (id) => document.getElementById(id);

const SEVERITIES = ["minor", "moderate", "severe", "extreme"];
const OUTCOMES = {
  drift: "drift",
  no_drift: "no drift",
  uncertain: "uncertain",
  failure: "failure",
  not_screened: "not screened",
};

// make("p", {class: "note", id: "x"}, "text", element): attributes whose value is null are left out.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// The words of a text, in any case and spacing, as a pattern; null for none.
function patternOf(text) {
  const words = text.split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const quoted = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(quoted.join("\\s+"), "gi");
}

// Where any of the patterns matches, as [start, end) in order, overlaps joined.
function rangesOf(text, patterns) {
  const found = [];
  for (const pattern of patterns) {
    for (const match of text.matchAll(pattern)) {
      found.push([match.index, match.index + match[0].length]);
    }
  }
  found.sort((a, b) => a[0] - b[0]);
  const joined = [];
  for (const [start, end] of found) {
    const last = joined.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else joined.push([start, end]);
  }
  return joined;
}

// A text with <mark class="judged"> around passages and <mark class="hit"> around search terms.
function marked(text, passages, terms) {
  const judged = passages.map(patternOf).filter(Boolean);
  return split(text, rangesOf(text, judged), "judged", (part) =>
    split(part, rangesOf(part, terms.map(patternOf).filter(Boolean)), "hit", (rest) => [rest]),
  );
}

function split(text, ranges, kind, inner) {
  const parts = [];
  let at = 0;
  for (const [start, end] of ranges) {
    parts.push(...inner(text.slice(at, start)));
    parts.push(make("mark", { class: kind }, ...inner(text.slice(start, end))));
    at = end;
  }
  parts.push(...inner(text.slice(at)));
  return parts;
}
