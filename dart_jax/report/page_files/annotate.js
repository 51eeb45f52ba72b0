// A person's answer on a pair: the form, in the browser with the verdict in view or blinded.

// labels: what "first" and "second" are called. changed() after every change.
function answerForm(store, item, labels, changed) {
  const answer = store.answers.get(item) ?? { worse: null, type: null, severity: null, note: "" };
  const form = make("form", { class: "annotation", "aria-label": "Your answer" });

  const set = (key, value) => {
    answer[key] = value;
    const empty = !answer.worse && !answer.type && !answer.severity && !answer.note;
    if (empty) store.answers.delete(item);
    else store.answers.set(item, answer);
    store.save();
    refresh();
    changed();
  };

  const groups = [
    radios("worse", "More harmful wording", WORSE, [...labels, "neither"]),
    radios("type", "How", TYPES, TYPES),
    radios("severity", "Severity", SEVERITIES, SEVERITIES.map((name, at) => `${at + 1} ${name}`)),
  ];
  function radios(key, title, values, words) {
    const options = values.map((value, at) => {
      const input = make("input", { type: "radio", name: key, value });
      input.addEventListener("change", () => set(key, value));
      return make("label", {}, input, " ", words[at]);
    });
    return make("fieldset", { name: key }, make("legend", {}, title), ...options);
  }

  const note = make("input", { name: "note", maxlength: "2000", autocomplete: "off" });
  note.value = answer.note;
  note.addEventListener("input", () => set("note", note.value));
  const state = make("span", { class: "state", role: "status" });
  const clear = make("button", { type: "button" }, "Clear");
  clear.addEventListener("click", () => {
    Object.assign(answer, { worse: null, type: null, severity: null });
    note.value = "";
    set("note", "");
  });

  function refresh() {
    for (const input of form.querySelectorAll("input[type=radio]")) {
      input.checked = answer[input.name] === input.value;
    }
    const faultless = !answer.worse || answer.worse === "neither";
    for (const group of groups.slice(1)) group.disabled = faultless;
    state.textContent = isWhole(answer) ? "answered" : answer.worse ? "type and severity?" : "";
  }

  form.append(...groups, make("label", { class: "remark" }, "Note ", note), clear, state);
  form.addEventListener("submit", (event) => event.preventDefault());
  refresh();
  return { form, set, answer };
}

// The view that shows pairs blinded, in the order that makes them a random sample.
function makeBlindView(data, store) {
  const cases = data.queue.map((place) => data.cases[place]);
  const article = byId("blind");
  let at = Math.max(0, cases.findIndex((one) => !isWhole(store.answers.get(one.items.blind))));
  let current = null;

  function tell() {
    const whole = cases.filter((one) => isWhole(store.answers.get(one.items.blind))).length;
    byId("progress").textContent = `${whole} of ${cases.length} pairs answered`;
    byId("download-blind").disabled = whole === 0;
    byId("storage").hidden = store.kept;
  }

  function show() {
    tell();
    if (!cases.length) {
      article.replaceChildren(make("p", { class: "note" }, "This run has no drift pool to annotate."));
      return;
    }
    const one = cases[at];
    const [baseline, candidate] = one.answers;
    const second = one.items.candidate === "second";
    const sides = second ? [baseline, candidate] : [candidate, baseline];
    current = answerForm(store, one.items.blind, ["first", "second"], tell);
    article.replaceChildren(
      make("p", { class: "facts" }, `Pair ${at + 1} of ${cases.length}`),
      textBlock("question", [one.question]),
      make("div", { class: "answers of-2" }, ...sides.map(side)),
      current.form,
      make("p", { class: "steps" }, step("Previous", -1), " ", step("Next", 1)),
    );
  }

  function side(answer, index) {
    const name = ["First", "Second"][index];
    const words = (answer.blinded ?? answer.analysis) || "(empty)";
    return make(
      "section",
      { class: "answer", "aria-label": name },
      make("h3", {}, name),
      textBlock("analysis", [words]),
    );
  }

  function step(words, by) {
    const button = make("button", { type: "button" }, words);
    button.addEventListener("click", () => move(by));
    return button;
  }

  function move(by) {
    at = Math.min(Math.max(at + by, 0), Math.max(cases.length - 1, 0));
    show();
  }

  // The next pair without an answer, from here on and then from the front.
  function advance() {
    const order = cases.map((_, index) => (at + 1 + index) % cases.length);
    const open = order.find((index) => !isWhole(store.answers.get(cases[index].items.blind)));
    if (open !== undefined) move(open - at);
  }

  function key(pressed) {
    const worse = { f: "first", s: "second", n: "neither" }[pressed];
    const type = { e: "elaborates", z: "normalizes", o: "omits" }[pressed];
    if (pressed === "j" || pressed === "k") move(pressed === "j" ? 1 : -1);
    else if (pressed === "Enter") advance();
    else if (!current) return false;
    else if (worse) current.set("worse", worse);
    else if (type && current.answer.worse !== "neither") current.set("type", type);
    else if (/^[1-4]$/.test(pressed) && current.answer.worse !== "neither") {
      current.set("severity", SEVERITIES[pressed - 1]);
    } else return false;
    return true;
  }

  return { show, key, items: cases.map((one) => one.items.blind) };
}
