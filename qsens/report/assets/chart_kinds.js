// The traces and axes of each chart. Every mark carries [run, trial]; coordinates of marks stay numbers.
const FAMILIES = ["uniform", "INT8 first, then float", "float first, then INT8", "other maps"];
const SYMBOLS = ["diamond", "circle", "square", "cross"];
const RUN_SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "x"];

const CHART_KINDS = { boundary: boundaryChart, tradeoff: tradeoffChart, sensitivity: sensitivityChart };

function nameIn(place, name) {
  return plain(view.isOverlay ? `${data.runs[place].name}: ${name}` : name);
}

function lookOf(place, index) {
  const { colours, runs } = palette();
  return view.isOverlay
    ? { colour: runs[place % runs.length], symbol: RUN_SYMBOLS[place % RUN_SYMBOLS.length] }
    : { colour: colours[index % colours.length], symbol: SYMBOLS[(index + 1) % SYMBOLS.length] };
}

function valuesOf(place, trial) {
  return metricOf(data.runs[place]).values[trial];
}

// Where a value is drawn: log axes have no place for zero and below, so these lie under all others.
function heightOf(value, lowest) {
  return view.isLog && value !== null && value <= 0 ? lowest / 2 : value;
}

function lowestPositive(places) {
  const values = places.flatMap((place) => Object.values(metricOf(data.runs[place]).values).map((entry) => entry[0]));
  return Math.min(...values.filter((value) => value > 0), Infinity);
}

function hoverText(place, number) {
  const run = data.runs[place], trial = trialOf(run, number), metric = metricOf(run);
  const head = view.isOverlay ? `${run.name}, trial ${number}` : `trial ${number}`;
  return [head, trial.title, `${metric.short} ${trial.scores[metric.name] ?? "—"}`].map(plain).join("<br>");
}

function marks(place, numbers, xs, lowest, more) {
  const entries = numbers.map((number) => valuesOf(place, number) ?? [null, null]);
  return {
    type: "scatter",
    x: xs,
    y: entries.map((entry) => heightOf(entry[0], lowest)),
    error_y: { type: "data", array: entries.map((entry) => entry[1] ?? 0), thickness: 1, width: 2, visible: true },
    customdata: numbers.map((number) => [place, number]),
    text: numbers.map((number) => hoverText(place, number)),
    hoverinfo: "text",
    ...more,
  };
}

function star(place, number, x, lowest) {
  const trace = marks(place, [number], [x], lowest, { mode: "markers", name: nameIn(place, "chosen map") });
  trace.marker = { symbol: "star", size: 16, color: palette().chosen, line: { width: 1, color: cssColour("--ink") } };
  return { ...trace, error_y: undefined };
}

// Plotly shortens ticks between powers of ten to one digit; these are written out.
function logTicks(places) {
  const values = places.flatMap((place) => Object.values(metricOf(data.runs[place]).values).map((entry) => entry[0]));
  const positive = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...positive))) - 1, high = Math.ceil(Math.log10(Math.max(...positive)));
  const steps = high - low > 4 ? [1] : high - low > 3 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const tickvals = [];
  for (let power = low; power <= high; power += 1) {
    tickvals.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(3))));
  }
  return { tickvals, ticktext: tickvals.map(String) };
}

function yAxis(layout, metric, places) {
  const better = metric.lower_is_better ? "lower is better" : "higher is better";
  layout.yaxis = { ...layout.yaxis, type: view.isLog ? "log" : "linear",
    title: { text: `${plain(metric.title)}<br>(${better})` } };
  if (view.isLog) {
    Object.assign(layout.yaxis, logTicks(places));
  }
  const parts = [];
  const against = new Set(places.map((place) => metricOf(data.runs[place]).against));
  if (against.size > 1) {
    parts.push("These runs were scored against different references or inputs: compare shapes, not values.");
  }
  const entries = places.flatMap((place) => Object.values(metricOf(data.runs[place]).values));
  if (view.isLog && entries.some((entry) => entry[0] !== null && entry[0] <= 0)) {
    parts.push("Values of zero and below are drawn at the lower edge of the log scale.");
  }
  const absent = entries.filter((entry) => entry[0] === null);
  if (absent.length) {
    parts.push(`Not drawn, as not finite: ${absent.length} of ${entries.length} scores.`);
  }
  return parts.join(" ");
}

// Bands behind a chart of one run, and of single layers; after the levels, which set the margins.
function addBands(layout, places, offset = 0) {
  if (view.isOverlay && offset === 0) {
    return;
  }
  const width = chart().clientWidth - layout.margin.l - layout.margin.r;
  const { shapes, annotations } = blockBands(data.runs[places[0]], width, offset);
  Object.assign(layout, { shapes, annotations: [...(layout.annotations ?? []), ...annotations] });
}

// One band a run of layers of the same block, named where there is room.
function blockBands(run, width, offset) {
  const shapes = [], annotations = [];
  let start = 0;
  run.layers.forEach((layer, place) => {
    if (place + 1 < run.layers.length && run.layers[place + 1].block === layer.block) {
      return;
    }
    const room = (place + 1 - start) / run.layers.length * width;
    const box = { type: "rect", layer: "below", x0: start + offset, x1: place + 1 + offset, yref: "paper", y0: 0, y1: 1 };
    if (shapes.length % 2) {
      shapes.push({ ...box, fillcolor: "rgba(0,0,0,0)", line: { width: 0 } });
    } else {
      shapes.push({ ...box, fillcolor: cssColour("--band"), line: { width: 0 } });
    }
    if (layer.block.length * 7 < room) {
      annotations.push({ x: (start + place + 1) / 2 + offset, y: 0, yref: "paper", yanchor: "bottom", showarrow: false,
        text: plain(layer.block), font: { size: 11, color: cssColour("--faint") } });
    }
    start = place + 1;
  });
  return { shapes, annotations };
}

function boundaryChart(places, layout) {
  const lowest = lowestPositive(places), traces = [];
  places.forEach((place) => {
    const run = data.runs[place], metric = metricOf(run);
    metric.lines.forEach((line, index) => {
      const { colour, symbol } = lookOf(place, index);
      const isOpen = line.points.map(([, number]) => trialOf(run, number).asked !== null);
      const trace = marks(place, line.points.map((point) => point[1]), line.points.map((point) => point[0]), lowest, {
        mode: "lines+markers", name: nameIn(place, line.name),
        line: { color: colour, dash: view.isOverlay && index % 2 ? "dot" : "solid" },
        marker: { size: 8, symbol: isOpen.map((open) => (open ? `${symbol}-open` : symbol)), color: colour },
      });
      // Trials of a screen have no score on all images: the line says where they lie.
      if (line.screened.length) {
        trace.y = line.screened.map(([value]) => heightOf(value, lowest));
        trace.error_y.array = line.screened.map(([, half]) => half ?? 0);
        trace.marker.symbol = `${symbol}-open`;
        trace.line.dash = "dash";
      }
      traces.push(trace);
      const chosen = line.points.find((point) => point[1] === run.chosen);
      if (chosen && valuesOf(place, run.chosen)) {
        traces.push({ ...star(place, run.chosen, chosen[0], lowest), showlegend: index === 0 && !view.isOverlay });
      }
    });
  });
  const note = yAxis(layout, metricOf(data.runs[places[0]]), places);
  layout.xaxis.title = { text: "boundary b (layers 0 to b-1 lie before it)" };
  if (!view.isOverlay) {
    const count = data.runs[places[0]].layers.length;
    layout.xaxis.range = [-0.03 * count, 1.03 * count];
  }
  places.forEach((place) => {
    drawLevels(place, levelsOf(place, lowest), traces, layout, [0, data.runs[place].layers.length]);
  });
  addBands(layout, places);
  return { traces, layout, note, points: pointsOf(traces) };
}

function costOf(trial) {
  return view.cost < 0 ? 100 * trial.share : trial.ms[view.cost]?.[0] ?? null;
}

function tradeoffChart(places, layout) {
  const lowest = lowestPositive(places), traces = [], costs = [];
  places.forEach((place) => {
    const run = data.runs[place], metric = metricOf(run);
    const shown = run.trials.filter((trial) => trial.number in metric.values && costOf(trial) !== null);
    const front = metric.fronts[view.cost + 1] ?? [];
    traces.push(marks(place, front, front.map((number) => costOf(trialOf(run, number))), lowest, {
      mode: "lines", name: nameIn(place, "Pareto front"), error_y: undefined,
      line: { shape: view.cost < 0 ? "vh" : "hv", color: view.isOverlay ? lookOf(place, 0).colour : cssColour("--faint"), width: 2 }, opacity: 0.8,
    }));
    FAMILIES.forEach((family, index) => {
      const members = shown.filter((trial) => trial.family === family);
      if (!members.length) {
        return;
      }
      const { colour } = lookOf(place, index === 0 ? 5 : index - 1);
      const showlegend = !view.isOverlay;
      traces.push(marks(place, members.map((trial) => trial.number), members.map(costOf), lowest, {
        mode: "markers", name: nameIn(place, family), showlegend,
        marker: { size: 9, symbol: SYMBOLS[index], color: colour,
          opacity: members.map((trial) => (front.includes(trial.number) ? 1 : 0.6)) },
      }));
    });
    const chosen = shown.find((trial) => trial.number === run.chosen);
    if (chosen) {
      traces.push({ ...star(place, run.chosen, costOf(chosen), lowest), showlegend: !view.isOverlay });
    }
    costs.push(...shown.map(costOf));
  });
  const note = yAxis(layout, metricOf(data.runs[places[0]]), places);
  layout.xaxis.title = { text: view.cost < 0
    ? "share of the work in INT8 (%)" : `ms, ${plain(currentRun().places[view.cost])}` };
  places.forEach((place) => {
    drawLevels(place, levelsOf(place, lowest), traces, layout, [Math.min(...costs), Math.max(...costs)]);
  });
  return { traces, layout, note, points: pointsOf(traces) };
}

function sensitivityChart(places, layout) {
  const traces = [];
  let hasScreens = false;
  places.forEach((place) => {
    const run = data.runs[place], effects = metricOf(run).effects;
    hasScreens ||= effects.some((effect) => effect.is_screen);
    const origins = [...new Set(effects.map((effect) => effect.origin))];
    origins.forEach((origin, index) => {
      const members = effects.filter((effect) => effect.origin === origin);
      traces.push({
        type: "bar",
        name: nameIn(place, origin),
        x: members.map((effect) => effect.start),
        y: members.map((effect) => effect.value),
        error_y: { type: "data", array: members.map((effect) => effect.half ?? 0), thickness: 1, width: 2,
          color: cssColour("--faint") },
        marker: { color: lookOf(place, index).colour },
        customdata: members.map((effect) => [place, effect.trial]),
        text: members.map((effect) => effectText(run, effect)),
        textposition: "none",
        hoverinfo: "text",
      });
    });
  });
  const run = data.runs[places[0]], metric = metricOf(run);
  const every = Math.ceil(run.layers.length / 40);
  const ticks = run.layers.map((_, place) => place).filter((place) => place % every === 0);
  Object.assign(layout.xaxis, { tickvals: ticks, tickangle: -60,
    ticktext: ticks.map((place) => plain(run.layers[place].short)) });
  layout.yaxis.title = { text: `change of ${plain(metric.short)}` };
  layout.barmode = "group";
  drawLevels(places[0], effectLevels(places[0]), traces, layout, [-0.5, run.layers.length - 0.5], [0]);
  addBands(layout, places, -0.5);
  const names = view.isOverlay && places.length > 1 ? ` Names of layers are those of ${run.name}.` : "";
  const screens = hasScreens
    ? " Where a number of images is named, a screen scored only these: compare such bars with each other only." : "";
  const note = "Only this INT8: against FP32. All but this INT8: against the map with this in INT8 too. Steps of a boundary: against " +
    `the boundary before. A bar stands at the first layer of what was changed.${screens}${names}`;
  return { traces, layout, note, points: pointsOf(traces) };
}

function effectText(run, effect) {
  const layer = run.layers[effect.start];
  const value = `${effect.value > 0 ? "+" : ""}${effect.value.toPrecision(3)}`;
  const words = [`${effect.unit} ${effect.name}`, effect.origin,
    effect.half === null ? value : `${value} ± ${effect.half.toPrecision(2)}`, `trial ${effect.trial}`];
  return [...words, ...(layer.reason ? [layer.reason] : [])].map(plain).join("<br>");
}
