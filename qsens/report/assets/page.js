// Tables, theme, the switch between runs, and printing: everything that needs no charting library.
const listeners = { run: [], theme: [] };

function emit(name, value) {
  listeners[name].forEach((listener) => listener(value));
}

function all(selector, root = document) {
  return Array.from(root.querySelectorAll(selector));
}

function sortKey(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.key ?? cell.textContent.trim();
  return { text, number: text === "" ? NaN : Number(text) };
}

function compareKeys(left, right, sign) {
  if (isNaN(left.number) !== isNaN(right.number)) {
    return isNaN(left.number) ? 1 : -1;
  }
  if (isNaN(left.number)) {
    return sign * left.text.localeCompare(right.text, undefined, { numeric: true });
  }
  return left.number === right.number ? 0 : sign * (left.number < right.number ? -1 : 1);
}

function sortBy(table, head, column) {
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((one, other) => compareKeys(sortKey(one, column), sortKey(other, column), sign));
  all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  body.append(...rows);
}

function onPress(element, action) {
  element.tabIndex = 0;
  element.addEventListener("click", action);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === element) {
      action(event);
    }
  });
}

function makeSortable(table) {
  all("th", table).forEach((head, column) => onPress(head, () => sortBy(table, head, column)));
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function addFilter(table) {
  const rows = Array.from(table.tBodies[0].rows);
  const text = element("input", { type: "search", placeholder: "name, block, reason" });
  const precision = element("select", {}, element("option", { value: "" }, "any precision"));
  ["fp32", "fp16", "int8"].forEach((name) =>
    precision.append(element("option", { value: name }, name.toUpperCase())));
  const count = element("span", { className: "faint" });
  function apply() {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row) => {
      const holds = row.textContent.toLowerCase().includes(wanted) &&
        (!precision.value || row.dataset.precisions.split(" ").includes(precision.value));
      row.hidden = !holds;
      shown += holds;
    });
    count.textContent = `${shown} of ${rows.length} layers`;
  }
  text.addEventListener("input", apply);
  precision.addEventListener("input", apply);
  apply();
  const hasPrecisions = rows.some((row) => row.dataset.precisions);
  const bar = element("div", { className: "toolbar filter" }, element("label", {}, "Filter ", text));
  bar.append(...(hasPrecisions ? [element("label", {}, "Precision ", precision)] : []), count);
  table.closest(".wide").before(bar);
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function startTheme() {
  const button = document.querySelector("button.theme");
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
    emit("theme");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    label();
    emit("theme");
  });
}

function showRun(place) {
  all("section.run").forEach((part) => { part.hidden = Number(part.dataset.run) !== place; });
  all("[data-show-run]").forEach((button) =>
    button.setAttribute("aria-pressed", String(Number(button.dataset.showRun) === place)));
  emit("run", place);
}

function startPrinting() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
}

function startPage() {
  all("table.sortable").forEach(makeSortable);
  all("table.layers").forEach(addFilter);
  all("[data-show-run]").forEach((button) =>
    button.addEventListener("click", () => showRun(Number(button.dataset.showRun))));
  all("figure.network").forEach(startNetwork);
  all("button.copy").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => copyText(button));
  });
  startTheme();
  startPrinting();
  showRun(0);
}
