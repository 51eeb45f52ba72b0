// The page: its three views, the browser's filters and list, the keyboard.

const data = JSON.parse(byId("data").textContent) ?? { run: "", key: "", cases: [], queue: [] };
const cases = data.cases;
const known = new Set(cases.flatMap((one) => (one.items ? [one.items.blind, one.items.open] : [])));
const openItems = cases.flatMap((one) => (one.items ? [one.items.open] : []));
const store = makeStore(data.key, known);
const haystacks = makeHaystacks(cases);
const blind = makeBlindView(data, store);
const filterForm = byId("filters");
const search = byId("search");
const list = makeList(byId("list"), byId("rows"), drawRow, choose);

let view = "report";
let filters = { ...NO_FILTERS };
let chosen = null; // place in `cases`

function nameOf(place) {
  return place === null ? "" : `${cases[place].set}/${cases[place].id}`;
}

function drawRow(place, row) {
  const one = cases[place];
  const tags = Object.entries(one.audits).map(([model, audit]) => {
    const tag = outcomeTag(audit);
    tag.title = `${model}: ${tag.textContent}`;
    tag.classList.add(`of-${model}`);
    return tag;
  });
  const head = make("span", { class: "row-head" }, make("b", {}, one.id), ` ${one.label}`);
  const asked = make("span", { class: "row-question", dir: "auto" }, one.question.slice(0, 160));
  row.append(make("span", { class: "row-text" }, head, asked), make("span", { class: "row-tags" }, ...tags));
}

function choose(place) {
  chosen = place;
  const one = place === null ? null : cases[place];
  const below = one && (one.items ? openForm(one) : poolNote());
  drawCase(byId("case"), one, termsOf(filters.q), below);
  byId("case").scrollTop = 0;
  clearTimeout(addressing);
  addressing = setTimeout(noteAddress, 300);
}

// A moment later: a browser refuses a page that changes its address at every key.
let addressing = 0;
function noteAddress() {
  if (view === "browse") writeAddress(view, filters, nameOf(chosen));
}

// People judge the audit that repair relies on, which is the drift pool's.
function poolNote() {
  const link = make("a", { href: "#browse?set=pool" }, "drift pool");
  return make("p", { class: "own note" }, "Annotations are of pairs of the ", link, ".");
}

// To annotate with the verdict in view: another kind of answer than a blinded one.
function openForm(one) {
  const counted = make("span", {});
  const button = make("button", { type: "button", id: "download-open" }, "Download annotations");
  const tell = () => {
    const lines = annotationLines(store, openItems).length;
    counted.textContent = `${lines} answered here`;
    button.disabled = lines === 0;
    byId("storage").hidden = store.kept;
  };
  button.addEventListener("click", () => save("open", openItems));
  const { form } = answerForm(store, one.items.open, ["M0", one.answers[1].model], tell);
  tell();
  const words =
    "With the verdict in view this is a remark on the audit, not a measurement of it: for that, " +
    "use the view Annotate, which is blinded. The two are downloaded and imported apart.";
  const storage = store.kept ? null : make("p", { class: "notice" }, byId("storage").textContent);
  const title = make("h3", {}, "Your answer");
  const saving = make("p", { class: "steps" }, button, " ", counted);
  return make("section", { class: "own" }, title, make("p", { class: "note" }, words), storage, form, saving);
}

function save(kind, items) {
  const who = store.annotator || "annotator";
  download(`annotations-${kind}-${data.run}-${who}.jsonl`, annotationLines(store, items));
}

function refilter(wanted = chosen) {
  const started = performance.now();
  const found = passing(cases, filters, haystacks);
  list.show(found, wanted);
  const model = (n) => n.toLocaleString("en");
  byId("count").textContent = `${model(found.length)} of ${model(cases.length)} cases`;
  byId("count").dataset.milliseconds = (performance.now() - started).toFixed(1);
}

function readForm() {
  const given = Object.fromEntries(new FormData(filterForm));
  filters = { ...NO_FILTERS, ...given, q: search.value };
  refilter();
}

function setFilters(changes) {
  filters = { ...filters, ...changes };
  fillForm();
  refilter();
}

function fillForm() {
  for (const [key, value] of Object.entries(filters)) {
    const field = key === "q" ? search : filterForm.elements.namedItem(key);
    if (field.value !== value) field.value = value;
  }
}

function toggle(key, value) {
  setFilters({ [key]: filters[key] === value ? "" : value });
}

// What the address asks for: a view, or a section of the report.
function followAddress() {
  const asked = readAddress();
  const section = document.getElementById(asked.view);
  view = ["browse", "annotate"].includes(asked.view) ? asked.view : "report";
  for (const name of ["report", "browse", "annotate"]) {
    byId(name).hidden = name !== view;
    const link = document.querySelector(`a[data-view=${name}]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = view;
  if (view === "browse") {
    filters = asked.filters;
    fillForm();
    const wanted = cases.findIndex((_, place) => nameOf(place) === asked.selected);
    refilter(wanted < 0 ? chosen : wanted);
  } else if (view === "annotate") blind.show();
  else if (section && section.id !== "report") section.scrollIntoView();
  if (view !== "report" || !section || section.id === "report") scrollTo(0, 0);
}

function go(name) {
  if (name === "browse") writeAddress(name, filters, nameOf(chosen));
  else writeAddress(name, NO_FILTERS, "");
  followAddress();
}

const BROWSE_KEYS = {
  j: () => list.move(1),
  k: () => list.move(-1),
  d: () => toggle("outcome", "drift"),
  u: () => toggle("outcome", "uncertain"),
  x: () => toggle("outcome", "failure"),
  0: () => setFilters({ ...NO_FILTERS }),
};

function browseKey(pressed) {
  if (/^[1-4]$/.test(pressed)) toggle("severity", pressed);
  else if (pressed in BROWSE_KEYS) BROWSE_KEYS[pressed]();
  else return false;
  return true;
}

function globalKey(pressed) {
  if (pressed === "?") byId("help").showModal();
  else if (pressed === "b") go("browse");
  else if (pressed === "a") go("annotate");
  else if (pressed === "/") {
    if (view !== "browse") go("browse");
    search.focus();
    search.select();
  } else return false;
  return true;
}

// Whether a key belongs to the element that has the focus.
function isTyping(target, pressed) {
  if (target.matches("input:not([type=radio]), textarea, select")) return true;
  return pressed === "Enter" && target.closest("button, a, summary") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.key === "Escape" && event.target === search) {
    event.preventDefault(); // which would clear it
    byId("list").focus();
  }
  if (isTyping(event.target, event.key)) return;
  const inList = event.target === byId("list");
  const arrow = inList && { ArrowDown: "j", ArrowUp: "k" }[event.key];
  const pressed = arrow || event.key;
  const own = { browse: browseKey, annotate: blind.key }[view];
  if (own?.(pressed) || globalKey(pressed)) event.preventDefault();
});

let typing = 0;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(readForm, 120);
});
filterForm.addEventListener("change", readForm);
filterForm.addEventListener("reset", (event) => {
  event.preventDefault();
  setFilters({ ...NO_FILTERS });
});
filterForm.addEventListener("submit", (event) => {
  event.preventDefault();
  readForm();
});
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("download-blind").addEventListener("click", () => save("blind", blind.items));
byId("annotator").value = store.annotator;
byId("annotator").addEventListener("input", (event) => {
  store.annotator = event.target.value.trim();
  store.save();
});
window.addEventListener("hashchange", followAddress);

for (const name of [...new Set(cases.map((one) => one.benchmark))].sort()) {
  filterForm.elements.namedItem("benchmark").append(make("option", { value: name }, name));
}
// Where nobody told types, there is nothing to choose.
const typed = cases.some((one) => Object.values(one.audits).some((audit) => audit.type));
filterForm.elements.namedItem("type").closest("label").hidden = !typed;
followAddress();
