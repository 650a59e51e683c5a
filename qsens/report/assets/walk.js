// The slider that walks maps over one input: FP32, the map, the error between them.
const FACTORS = [1, 2, 4, 8, 16, 32, 64];
const walkState = { steps: [], request: 0 };

// Steps whose trial has pictures.
function stepsOf(run, walk) {
  return walk.steps.filter(([, number]) => run.pictures && number in run.pictures.data);
}

function offerWalks() {
  const run = currentRun();
  const walks = run.walks.filter((walk) => stepsOf(run, walk).length > 1);
  control("walk").hidden = walks.length === 0;
  if (!walks.length) {
    return;
  }
  fill(control("walk-order"), walks.map((walk) => [walk.name, walk.name]), control("walk-order").value);
  const inputs = Array.from({ length: run.pictures.count }, (_, input) => [input, `${input + 1}`]);
  fill(control("walk-input"), inputs, control("walk-input").value);
  control("walk-note").textContent = run.pictures.note;
  offerSteps();
}

function offerSteps() {
  const run = currentRun();
  const walk = run.walks.find((entry) => entry.name === control("walk-order").value);
  walkState.steps = stepsOf(run, walk);
  const slider = control("walk-step");
  const chosen = walkState.steps.findIndex(([, number]) => number === run.chosen);
  slider.max = walkState.steps.length - 1;
  slider.value = chosen < 0 ? 0 : chosen;
  control("walk-first").textContent = walkState.steps[0][0];
  control("walk-last").textContent = walkState.steps.at(-1)[0];
  drawStep();
}

function stepWords(run, trial, label, input) {
  const psnr = run.pictures.psnr[trial.number][input];
  const scores = run.metrics.filter((metric) => metric.name in trial.scores)
    .map((metric) => `${metric.short} ${trial.scores[metric.name]}`);
  const chosen = trial.number === run.chosen ? " (chosen)" : "";
  const picture = psnr === null ? "identical to FP32" : `PSNR of this picture ${psnr.toFixed(2)} dB`;
  return [`${label}: trial ${trial.number}, ${trial.title}${chosen}`, picture, ...scores].join(" · ");
}

async function drawStep() {
  const run = currentRun(), pictures = run.pictures;
  const [label, number] = walkState.steps[Number(control("walk-step").value)];
  const input = Number(control("walk-input").value), factor = Number(control("walk-factor").value);
  const words = stepWords(run, trialOf(run, number), label, input);
  control("walk-words").textContent = words;
  control("walk-step").setAttribute("aria-valuetext", words);
  control("walk-amplified").textContent = `times ${factor}`;
  control("walk-top").textContent = `${(255 / factor).toFixed(factor > 16 ? 1 : 0)} of 255 levels and more`;
  const request = walkState.request += 1;
  const [baseline, pixels] = await Promise.all([pixelsOf(run, pictures.baseline), pixelsOf(run, number)]);
  if (request !== walkState.request) {
    return;
  }
  drawPicture(control("walk-fp32"), pictures, baseline, input);
  drawPicture(control("walk-map"), pictures, pixels, input);
  drawError(control("walk-error"), pictures, pixels, baseline, input, factor);
  control("walk-map").dataset.trial = number;
}

function startWalk() {
  fill(control("walk-factor"), FACTORS.map((factor) => [factor, `${factor}`]), 8);
  drawScale(control("walk-scale"));
  control("walk-order").addEventListener("input", offerSteps);
  ["walk-input", "walk-factor"].forEach((name) => control(name).addEventListener("input", drawStep));
  control("walk-step").addEventListener("input", () => {
    drawStep();
    look.isHeld = false;
    showTrial(look.page, walkState.steps[Number(control("walk-step").value)][1]);
  });
  listeners.run.push(offerWalks);
}
