// A list of any length of which only the rows in sight (and a few around them) are in the document.

const ROW = 58; // pixels, as in page.css
const AROUND = 6;

// box: the scrolling element; rows: the one that holds the rows; draw(place, row) fills a row.
function makeList(box, rows, draw, choose) {
  let places = [];
  let selected = -1; // place in `places`

  function render() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - AROUND);
    const last = Math.min(places.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + AROUND);
    const shown = [];
    for (let index = first; index < last; index++) {
      const row = make("div", {
        class: "row",
        role: "option",
        id: `row-${index}`,
        "aria-selected": String(index === selected),
        "aria-setsize": places.length,
        "aria-posinset": index + 1,
      });
      row.style.transform = `translateY(${index * ROW}px)`;
      row.dataset.index = index;
      draw(places[index], row);
      shown.push(row);
    }
    rows.replaceChildren(...shown);
    if (selected >= 0) box.setAttribute("aria-activedescendant", `row-${selected}`);
    else box.removeAttribute("aria-activedescendant");
  }

  function select(index) {
    if (!places.length) return;
    selected = Math.min(Math.max(index, 0), places.length - 1);
    const top = selected * ROW;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
    render();
    choose(places[selected]);
  }

  // New places; the one that is selected stays so where it still passes, else the first is.
  function show(found, wanted) {
    places = found;
    selected = -1;
    rows.style.height = `${places.length * ROW}px`; // before anything scrolls
    if (!found.length) {
      render();
      choose(null);
      return;
    }
    select(Math.max(0, found.indexOf(wanted)));
  }

  let waiting = false;
  box.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      render();
    });
  });
  box.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) select(Number(row.dataset.index));
  });
  new ResizeObserver(render).observe(box);

  return { show, move: (by) => select(selected + by), render };
}
