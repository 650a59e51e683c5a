// Which trial is looked at, its card, and the marks in charts and tables that follow it. `page` is the run
// that the tables show; with charts over all runs the trial may be of another one.
const PRECISIONS = ["fp32", "fp16", "int8"];
const look = { page: 0, run: 0, trial: null, isHeld: false };

const currentRun = () => data.runs[look.page];
const trialOf = (run, number) => run.trials.find((trial) => trial.number === number);

// Show a trial. Pointing at another one changes nothing while a trial is held.
function showTrial(place, number, { hold = false } = {}) {
  if (look.isHeld && !hold) {
    return;
  }
  if (hold && place !== look.page) {
    showRun(place);
  }
  look.run = place;
  look.trial = number;
  look.isHeld = hold;
  refreshLook();
}

function holdOrRelease(place, number) {
  const isSame = look.isHeld && look.run === place && look.trial === number;
  look.isHeld = false;
  showTrial(place, number, { hold: !isSame });
}

function release() {
  look.isHeld = false;
  refreshLook();
}

function refreshLook() {
  drawCard();
  drawCompared();
  markRows();
  markPoint();
}

function rowsOfTrials(place) {
  return all(`section.run[data-run="${place}"] tr[data-trial]`);
}

function markRows() {
  all("tr.looked-at").forEach((row) => row.classList.remove("looked-at"));
  rowsOfTrials(look.run)
    .filter((row) => Number(row.dataset.trial) === look.trial)
    .forEach((row) => row.classList.add("looked-at"));
}

function mapStrip(run, digits) {
  const strip = element("div", { className: "strip" });
  run.layers.forEach((layer, place) => {
    const precision = PRECISIONS[digits[place]];
    strip.append(element("span", { className: precision, title: `${layer.name}: ${precision.toUpperCase()}` }));
  });
  return strip;
}

function factsOf(run, trial) {
  const facts = run.metrics
    .filter((metric) => metric.name in trial.scores)
    .map((metric) => [metric.short, trial.scores[metric.name]]);
  facts.push(["INT8 MACs", `${(100 * trial.share).toFixed(1)}%`]);
  run.places.forEach((place, index) => {
    if (trial.ms[index]) {
      facts.push([place, `${trial.times[index]} ms`]);
    }
  });
  return facts;
}

function drawCard() {
  const run = data.runs[look.run];
  const head = control("card-head");
  const trial = trialOf(run, look.trial);
  control("card").classList.toggle("held", look.isHeld);
  if (!trial) {
    head.replaceChildren(element("p", { className: "faint" }, "Nothing was tried yet."));
    return;
  }
  const title = element("h2", {}, `Trial ${trial.number}`);
  const whose = data.runs.length > 1 ? ` of ${run.name}` : "";
  const chosen = trial.number === run.chosen ? ", the chosen map" : "";
  title.append(element("small", {}, `${whose}${chosen}`));
  const list = element("dl");
  factsOf(run, trial).forEach(([name, value]) =>
    list.append(element("dt", {}, name), element("dd", {}, value)));
  const parts = [title, element("p", {}, trial.title), mapStrip(run, trial.map)];
  if (trial.asked) {
    parts.push(element("p", { className: "note" }, "Built differently from what was asked for:"),
      mapStrip(run, trial.asked));
  }
  if (trial.note) {
    parts.push(element("p", { className: "note" }, trial.note));
  }
  if (run.pictures && !hasPictures(run, trial.number)) {
    parts.push(element("p", { className: "faint" }, "No sample pictures were kept of this trial."));
  }
  head.replaceChildren(...parts);
  control("card-facts").replaceChildren(list, cardButtons());
}

function cardButtons() {
  const hold = element("button", { type: "button" }, look.isHeld ? "Let go (Esc)" : "Hold");
  hold.addEventListener("click", () => holdOrRelease(look.run, look.trial));
  const find = element("button", { type: "button" }, "Row in the table");
  find.addEventListener("click", () => {
    if (look.run !== look.page) {
      holdOrRelease(look.run, look.trial);
    }
    const row = rowsOfTrials(look.run).find((entry) => Number(entry.dataset.trial) === look.trial);
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  });
  return element("p", { className: "buttons" }, hold, find);
}

function startCard() {
  data.runs.forEach((run, place) => rowsOfTrials(place).forEach((row) => {
    const number = Number(row.dataset.trial);
    onPress(row, (event) => {
      if (!event.target.closest("a")) {
        holdOrRelease(place, number);
      }
    });
  }));
  all("[data-look]").forEach((word) => {
    const place = Number(word.closest("section.run").dataset.run);
    onPress(word, () => showTrial(place, Number(word.dataset.look), { hold: true }));
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && look.isHeld) {
      release();
    }
  });
  listeners.run.push((place) => {
    Object.assign(look, { page: place, run: place, isHeld: false });
    const run = currentRun();
    look.trial = run.chosen ?? run.int8 ?? run.trials[0]?.number ?? null;
    refreshLook();
  });
}
