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

// Differences of one input from FP32's as shares of full scale, place by place: by FLIP, or by grey levels.
async function differencesOf(run, trial, input, isFlip) {
  const pictures = run.pictures, area = pictures.width * pictures.height;
  if (isFlip) {
    const bytes = await mapsOf(run, trial);
    return bytes && Float32Array.from(bytes.subarray(area * input, area * (input + 1)), (value) => value / 255 * pictures.mostOfMaps);
  }
  const [pixels, baseline] = await Promise.all([pixelsOf(run, trial), pixelsOf(run, pictures.baseline)]);
  return pixels && Float32Array.from({ length: area }, (_, place) => {
    let sum = 0;
    for (let colour = 0; colour < 3; colour += 1) {
      const at = area * (3 * input + colour) + place;
      sum += Math.abs(pixels[at] - baseline[at]);
    }
    return sum / 3 / 255;
  });
}

function mapsOf(run, trial) {
  const { maps } = run.pictures, key = `${data.runs.indexOf(run)}/${trial}/maps`;
  if (!(trial in maps)) {
    return pixelsOf(run, trial).then((pixels) => pixels && new Uint8Array(pixels.length / 3));
  }
  if (!pictureCache.has(key)) {
    pictureCache.set(key, inflate(maps[trial]));
  }
  return pictureCache.get(key);
}

function drawDifference(canvas, pictures, differences, factor) {
  paint(canvas, pictures, (place) => heat(differences[place] * factor));
}

// The middle, as shares of the sides, of the part with the largest difference, and a share that few pass.
function worstPlace(pictures, differences) {
  const { width, height } = pictures, cells = 12, sums = new Float64Array(cells * cells);
  differences.forEach((value, place) => {
    const row = Math.floor(place / width), column = place % width;
    sums[Math.floor(row * cells / height) * cells + Math.floor(column * cells / width)] += value;
  });
  const largest = Math.max(...sums), worst = sums.indexOf(largest), most = 4 * largest * cells * cells / differences.length;
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
