// The same input under FP32, the map that is looked at, and INT8 everywhere: whole, magnified, as errors.
const FACTORS = [1, 2, 4, 8, 16, 32, 64];
const ZOOM = 5, MARGIN = 1 / (2 * ZOOM);
const compared = { request: 0, input: 0, x: 0.5, y: 0.5, isFlipped: false, steps: [] };

// Steps whose trial has pictures.
function stepsOf(run, walk) {
  return walk.steps.filter(([, number]) => run.pictures && number in run.pictures.data);
}

function hasPictures(run, number) {
  return Boolean(run.pictures) && number in run.pictures.data;
}

// A new run opens on the input that INT8 everywhere damages most, framed where it does.
async function offerPictures() {
  const run = currentRun(), pictures = run.pictures;
  control("compare").hidden = !pictures;
  if (!pictures) {
    return;
  }
  const number = hasPictures(run, run.int8) ? run.int8 : run.chosen;
  const found = pictures.psnr[number] ?? [];
  const worst = found.reduce((best, value, place) => ((value ?? 1e9) < (found[best] ?? 1e9) ? place : best), 0);
  const inputs = Array.from({ length: pictures.count }, (_, input) => [input, `${input + 1}`]);
  fill(control("input"), inputs, worst);
  control("picture-note").textContent = pictures.note;
  offerWalks(run);
  control("difference-choice").hidden = !hasMaps(run);
  await frameWorst(run, number);
  drawCompared();
}

const hasMaps = (run) => Object.keys(run.pictures.maps).length > 0;
const isByFlip = (run) => hasMaps(run) && control("difference").value === "flip";

async function frameWorst(run, number) {
  const input = Number(control("input").value);
  const differences = await differencesOf(run, number, input, isByFlip(run));
  const found = differences ? worstPlace(run.pictures, differences) : { x: 0.5, y: 0.5, most: 1 / 8 };
  Object.assign(compared, { x: found.x, y: found.y });
  control("factor").value = FACTORS.filter((factor) => factor * found.most <= 1).at(-1) ?? 1;
}

// Another way to see the difference has another scale.
async function offerDifference() {
  const run = data.runs[look.run], { x, y } = compared;
  await frameWorst(run, hasPictures(run, run.int8) ? run.int8 : look.trial);
  moveFrame(x, y);
}

function offerWalks(run) {
  const walks = run.walks.filter((walk) => stepsOf(run, walk).length > 1);
  control("walk").hidden = walks.length === 0;
  if (walks.length) {
    fill(control("walk-order"), walks.map((walk) => [walk.name, walk.name]), control("walk-order").value);
    offerSteps();
  }
}

function offerSteps() {
  const run = currentRun();
  compared.steps = stepsOf(run, run.walks.find((walk) => walk.name === control("walk-order").value));
  control("walk-step").max = compared.steps.length - 1;
  control("walk-first").textContent = compared.steps[0][0];
  control("walk-last").textContent = compared.steps.at(-1)[0];
  markStep();
}

// The slider stands where the trial is that the pictures show.
function markStep() {
  const found = compared.steps.findIndex(([, number]) => number === look.trial);
  if (found >= 0) {
    control("walk-step").value = found;
  }
  const [label, number] = compared.steps[Number(control("walk-step").value)] ?? ["", null];
  control("walk-step").setAttribute("aria-valuetext", `${label}, trial ${number}`);
}

function captionOf(run, name, number, input) {
  const psnr = run.pictures.psnr[number]?.[input];
  return psnr === undefined ? `${name}: no pictures` : `${name}, ${psnr === null ? "as FP32" : `${psnr.toFixed(1)} dB`}`;
}

async function drawCompared() {
  const run = data.runs[look.run], pictures = run.pictures;
  control("compare").hidden = !pictures;
  if (!pictures) {
    return;
  }
  markStep();
  const input = Math.min(Number(control("input").value), pictures.count - 1), request = compared.request += 1;
  const numbers = [pictures.baseline, look.trial, run.int8];
  const pixels = await Promise.all(numbers.map((number) => pixelsOf(run, number)));
  const differences = await Promise.all(numbers.map((number, place) =>
    differencesOf(run, pixels[place] ? number : pictures.baseline, input, isByFlip(run))));
  if (request !== compared.request) {
    return;
  }
  const whose = look.trial === run.chosen ? "chosen" : "this map";
  control("map-caption").textContent = compared.isFlipped ? "FP32 (flipped)" : captionOf(run, whose, look.trial, input);
  control("int8-caption").textContent = captionOf(run, trialOf(run, run.int8)?.title ?? "INT8", run.int8, input);
  const factor = Number(control("factor").value);
  ["picture-fp32", "picture-map", "picture-int8"].forEach((name, place) => {
    const shown = place === 1 && compared.isFlipped ? pixels[0] : pixels[place];
    drawColumn(name, pictures, shown, input);
    if (place) {
      drawDifference(control(`${name}-error`), pictures, differences[place], factor);
    }
  });
  control("error-name").textContent = isByFlip(run) ? "FLIP" : "error";
  control("error-top").textContent = isByFlip(run)
    ? `${Number((1 / factor).toPrecision(2))} of 1` : `${(255 / factor).toFixed(factor > 16 ? 1 : 0)} of 255 levels`;
  control("picture-map").dataset.trial = look.trial;
}

function drawColumn(name, pictures, pixels, input) {
  const canvas = control(name);
  all("canvas", canvas.closest("figure")).forEach((part) => { part.style.visibility = pixels ? "" : "hidden"; });
  canvas.closest(".whole").setAttribute("aria-label", `${canvas.closest("figure").innerText.trim()}, input ${input + 1}: arrow keys move the frame`);
  if (pixels) {
    drawPicture(canvas, pictures, pixels, input);
    magnify(canvas, control(`${name}-close`));
  }
  const spot = canvas.nextElementSibling;
  spot.style.left = `${100 * (compared.x - MARGIN)}%`;
  spot.style.top = `${100 * (compared.y - MARGIN)}%`;
}

function magnify(canvas, target) {
  const width = Math.ceil(canvas.width / ZOOM), height = Math.ceil(canvas.height / ZOOM);
  Object.assign(target, { width, height });
  const left = Math.round(compared.x * canvas.width - width / 2), top = Math.round(compared.y * canvas.height - height / 2);
  target.getContext("2d").drawImage(canvas, left, top, width, height, 0, 0, width, height);
}

function moveFrame(x, y) {
  const within = (value) => Math.min(Math.max(value, MARGIN), 1 - MARGIN);
  Object.assign(compared, { x: within(x), y: within(y) });
  drawCompared();
}

function startFrame(whole) {
  whole.addEventListener("pointermove", (event) => {
    const box = whole.getBoundingClientRect();
    moveFrame((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  whole.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (step) {
      moveFrame(compared.x + 0.04 * step[0], compared.y + 0.04 * step[1]);
      event.preventDefault();
    }
  });
}

function flip() {
  compared.isFlipped = !compared.isFlipped;
  control("flip").setAttribute("aria-pressed", String(compared.isFlipped));
  drawCompared();
}

function startCompared() {
  fill(control("factor"), FACTORS.map((factor) => [factor, `${factor}`]), 8);
  drawScale(control("error-scale"));
  all(".interactive .whole").forEach(startFrame);
  ["input", "factor"].forEach((name) => control(name).addEventListener("input", drawCompared));
  control("difference").addEventListener("input", offerDifference);
  control("flip").addEventListener("click", flip);
  addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "f" && !event.ctrlKey && !event.metaKey && !event.target.closest("input, select")) {
      flip();
    }
  });
  control("walk-order").addEventListener("input", offerSteps);
  control("walk-step").addEventListener("input", () => {
    look.isHeld = false;
    showTrial(look.page, compared.steps[Number(control("walk-step").value)][1]);
  });
  listeners.run.push(offerPictures);
}
