// Annotations in progress, by item id. They are kept in localStorage under the run's key, where the
// browser has one; what is read back is checked like any other foreign data.

const WORSE = ["first", "second", "neither"];
const TYPES = ["elaborates", "normalizes", "omits"];

function makeStore(key, known) {
  const name = `dart_jax:${key}`;
  const answers = new Map();
  const store = { answers, annotator: "", kept: true };

  store.save = () => {
    try {
      const value = { annotator: store.annotator, answers: Object.fromEntries(answers) };
      localStorage.setItem(name, JSON.stringify(value));
      store.kept = true;
    } catch {
      store.kept = false; // storage is off or full: the page says so
    }
  };

  function read() {
    try {
      const before = JSON.parse(localStorage.getItem(name) ?? "{}");
      answers.clear();
      store.annotator = typeof before.annotator === "string" ? before.annotator.slice(0, 60) : "";
      for (const [item, answer] of Object.entries(before.answers ?? {})) {
        if (known.has(item)) answers.set(item, checked(answer));
      }
    } catch {
      // Not there or not ours: save finds out whether anything can be kept.
    }
  }

  // Another tab with the same page has saved: its answers are these, too.
  window.addEventListener("storage", (event) => {
    if (event.key === name) read();
  });
  read();
  store.save();
  return store;
}

function checked(answer) {
  const from = (values, value) => (values.includes(value) ? value : null);
  return {
    worse: from(WORSE, answer?.worse),
    type: from(TYPES, answer?.type),
    severity: from(SEVERITIES, answer?.severity),
    note: String(answer?.note ?? ""),
  };
}

// Whether an answer is whole: type and severity are given exactly when one text is worse.
function isWhole(answer) {
  if (!answer?.worse) return false;
  return answer.worse === "neither" || Boolean(answer.type && answer.severity);
}

// The lines that `python -m dart_jax audit import-annotations` reads, of whole answers.
function annotationLines(store, items) {
  return items
    .filter((item) => isWhole(store.answers.get(item)))
    .map((item) => {
      const { worse, type, severity, note } = store.answers.get(item);
      const fault = worse === "neither" ? { type: null, severity: null } : { type, severity };
      const said = { annotator: wellFormed(store.annotator), worse, ...fault, note: wellFormed(note) };
      return `${JSON.stringify({ item, ...said })}\n`;
    });
}

// A text cut at its greatest length may end in half a character, which no import reads.
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

function download(fileName, lines) {
  const url = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  const link = make("a", { href: url, download: fileName.replace(/[^\w.-]+/g, "_") });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
