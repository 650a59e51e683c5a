// Compressed data of the page: the sample pictures of trials, and how they are drawn.
const INFERNO = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
const pictureCache = new Map();

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The trial's pictures as bytes, input by input, colour planes in turn; null where it has none.
function pixelsOf(run, trial) {
  const pictures = run.pictures;
  if (!pictures || !(trial in pictures.data)) {
    return Promise.resolve(null);
  }
  const key = `${data.runs.indexOf(run)}/${trial}`;
  if (!pictureCache.has(key)) {
    pictureCache.set(key, decode(run, trial));
  }
  return pictureCache.get(key);
}

async function decode(run, trial) {
  const bytes = await inflate(run.pictures.data[trial]);
  if (trial === run.pictures.baseline) {
    return bytes;
  }
  const baseline = await pixelsOf(run, run.pictures.baseline);
  return bytes.map((difference, place) => difference + baseline[place]);
}

function paint(canvas, pictures, colourAt) {
  const area = pictures.width * pictures.height;
  canvas.width = pictures.width;
  canvas.height = pictures.height;
  const image = new ImageData(pictures.width, pictures.height);
  for (let place = 0; place < area; place += 1) {
    const colour = colourAt(place, area);
    image.data.set(colour, 4 * place);
    image.data[4 * place + 3] = 255;
  }
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
}

function drawPicture(canvas, pictures, pixels, input) {
  paint(canvas, pictures, (place, area) => {
    const start = 3 * area * input + place;
    return [pixels[start], pixels[start + area], pixels[start + 2 * area]];
  });
}

function drawError(canvas, pictures, pixels, baseline, input, factor) {
  paint(canvas, pictures, (place, area) => {
    let sum = 0;
    for (let colour = 0; colour < 3; colour += 1) {
      const at = area * (3 * input + colour) + place;
      sum += Math.abs(pixels[at] - baseline[at]);
    }
    return heat(sum / 3 * factor / 255);
  });
}

// The middle, as shares of the sides, of the part with the largest error, and a level that few errors pass.
function worstPlace(pictures, pixels, baseline, input) {
  const { width, height } = pictures, area = width * height, cells = 12, sums = new Float64Array(cells * cells);
  for (let at = 0; at < 3 * area; at += 1) {
    const error = Math.abs(pixels[3 * area * input + at] - baseline[3 * area * input + at]);
    const place = at % area, row = Math.floor(place / width), column = place % width;
    sums[Math.floor(row * cells / height) * cells + Math.floor(column * cells / width)] += error;
  }
  const largest = Math.max(...sums), worst = sums.indexOf(largest), most = 4 * largest * cells * cells / (3 * area);
  const middle = (cell) => Math.min(Math.max((cell + 0.5) / cells, 0.1), 0.9);
  return { x: middle(worst % cells), y: middle(Math.floor(worst / cells)), most };
}

// The colour of a share of full scale, 0 to 1; what is beyond is drawn like 1.
function heat(share) {
  const position = Math.min(Math.max(share, 0), 1) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(position), INFERNO.length - 2);
  return INFERNO[low].map((value, channel) =>
    Math.round(value + (INFERNO[low + 1][channel] - value) * (position - low)));
}

function drawScale(canvas) {
  paint(canvas, canvas, (place) => heat((place % canvas.width) / (canvas.width - 1)));
}
