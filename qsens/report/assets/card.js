// Which trial is looked at, its card, and the marks in charts and tables that follow it. `page` is the run
// that the tables show; with charts over all runs the trial may be of another one.
const PRECISIONS = ["fp32", "fp16", "int8"];
const MOST_CARD_INPUTS = 3;
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
  const card = document.querySelector("aside.card");
  const trial = trialOf(run, look.trial);
  card.classList.toggle("held", look.isHeld);
  if (!trial) {
    card.replaceChildren(element("p", { className: "faint" }, "Point at a mark in the chart."));
    return;
  }
  const words = trial.number === run.chosen ? `${trial.title} (chosen)` : trial.title;
  const head = element("h3", {}, `Trial ${trial.number}`);
  if (data.runs.length > 1) {
    head.append(element("small", {}, ` of ${run.name}`));
  }
  const list = element("dl");
  factsOf(run, trial).forEach(([name, value]) =>
    list.append(element("dt", {}, name), element("dd", {}, value)));
  const parts = [head, element("p", {}, words), mapStrip(run, trial.map)];
  if (trial.asked) {
    parts.push(element("p", { className: "note" }, "Built differently from what was asked for:"),
      mapStrip(run, trial.asked));
  }
  if (trial.note) {
    parts.push(element("p", { className: "note" }, trial.note));
  }
  parts.push(list, cardPictures(run, trial), cardButtons());
  card.replaceChildren(...parts);
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

function cardPictures(run, trial) {
  const grid = element("div", { className: "card-pictures" });
  const pictures = run.pictures;
  if (!pictures || !(trial.number in pictures.data)) {
    grid.append(element("p", { className: "faint" }, "No sample pictures were kept of this trial."));
    return grid;
  }
  const count = Math.min(pictures.count, MOST_CARD_INPUTS);
  grid.style.setProperty("--inputs", Math.max(count, 2));
  Promise.all([pixelsOf(run, pictures.baseline), pixelsOf(run, trial.number)]).then(([baseline, pixels]) => {
    [["FP32", baseline], ["this map", pixels]].forEach(([name, bytes]) => {
      grid.append(element("span", { className: "faint" }, name));
      for (let input = 0; input < count; input += 1) {
        const canvas = element("canvas", { title: `${name}, input ${input + 1}` });
        drawPicture(canvas, pictures, bytes, input);
        grid.append(canvas);
      }
    });
    grid.dataset.trial = trial.number;
  });
  return grid;
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
    look.trial = run.chosen ?? run.fp32 ?? run.trials[0]?.number ?? null;
    refreshLook();
  });
}
