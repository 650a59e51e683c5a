// The chart: which one is shown, its colours, zoom, pointing, clicking and keys. `chart_kinds.js` makes traces.
const view = { chart: "tradeoff", metric: null, cost: -1, isLog: false, isOverlay: false };
const DARK = {
  colours: ["#56B4E9", "#9DB6C9", "#7FD1D6", "#E6E6E3", "#B9A5F2", "#B8B8B8"],
  runs: ["#56B4E9", "#D9A679", "#7FD1D6", "#B9A5F2", "#B8B8B8"], chosen: "#FFC845", limit: "#F0733D",
};
const LIGHT = {
  colours: ["#0072B2", "#4A6A82", "#0E7C86", "#1a1a1a", "#5B4DB1", "#6b6b6b"],
  runs: ["#0072B2", "#8C5A2B", "#0E7C86", "#5B4DB1", "#6b6b6b"], chosen: "#E69F00", limit: "#D55E00",
};
// Why a chart has nothing to show.
const EMPTY = {
  tradeoff: "Nothing was scored yet.",
  boundary: "No map of this run cuts the network in two, one side in INT8: --strategy boundary tries these.",
  sensitivity: "No map of this run tells of a single layer: --strategy one-at-a-time tries these.",
};
let drawn = { points: [] };

const control = (name) => document.querySelector(`.interactive .${name}`);
const chart = () => control("chart");
const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const palette = () => (isDark() ? DARK : LIGHT);
const metricOf = (run) => run.metrics.find((metric) => metric.name === view.metric);

// Plotly reads a few HTML tags in texts; names from a run must not be taken for them.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function shownRuns() {
  const places = data.runs.map((_, place) => place);
  return (view.isOverlay ? places : [look.page]).filter((place) => metricOf(data.runs[place]));
}

function baseLayout(kind) {
  const ink = cssColour("--ink"), line = cssColour("--line");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, tickfont: { size: 12 } };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif", size: 13 },
    margin: { l: 60, r: 16, t: 16, b: 50 },
    hovermode: "closest",
    hoverlabel: { bgcolor: cssColour("--page"), bordercolor: line, font: { color: ink } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: cssColour("--faint"), activecolor: ink },
    dragmode: "zoom",
    uirevision: [kind, view.metric, view.cost, view.isLog, view.isOverlay || look.page].join("/"),
    xaxis: { ...axis, showgrid: false, zeroline: false },
    yaxis: { ...axis },
  };
}

function drawChart() {
  const layout = baseLayout(view.chart);
  drawn = view.isEmpty
    ? { traces: [], layout, note: metricOf(currentRun()) ? EMPTY[view.chart] : "Nothing was scored yet.", points: [] }
    : CHART_KINDS[view.chart](shownRuns(), layout);
  const ring = {
    x: [], y: [], mode: "markers", showlegend: false, hoverinfo: "skip", cliponaxis: false,
    marker: { symbol: "circle-open", size: 20, color: cssColour("--ink"), line: { width: 2.5 } },
  };
  const options = {
    responsive: true, displaylogo: false, showSendToCloud: false, doubleClick: "autosize",
    modeBarButtons: [["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "autoScale2d"]],
  };
  Plotly.react(chart(), [...drawn.traces, ring], drawn.layout, options);
  control("chart-note").textContent = drawn.note;
  markPoint();
}

// The marks of the chart from left to right: what the arrow keys step through, and where the ring goes.
function pointsOf(traces) {
  const found = traces.flatMap((trace) => (trace.customdata ?? []).map((id, place) =>
    ({ run: id[0], trial: id[1], x: trace.x[place], y: trace.y[place], isMark: trace.mode !== "lines" })));
  return found.filter((point) => point.y !== null).sort((one, other) => one.x - other.x);
}

function markPoint() {
  if (!chart()?.data) {
    return;
  }
  const found = drawn.points.filter((point) => point.isMark && point.run === look.run && point.trial === look.trial);
  const update = { x: [found.map((point) => point.x)], y: [found.map((point) => point.y)] };
  Plotly.restyle(chart(), update, [chart().data.length - 1]);
}

function listenToChart() {
  const idOf = (event) => event.points.map((point) => point.customdata).find(Boolean);
  chart().on("plotly_hover", (event) => {
    const id = idOf(event);
    if (id) {
      showTrial(id[0], id[1]);
    }
  });
  chart().on("plotly_click", (event) => {
    const id = idOf(event);
    if (id) {
      holdOrRelease(id[0], id[1]);
    }
  });
  chart().addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      stepPoint(step);
      event.preventDefault();
    } else if (event.key === "Enter" && look.trial !== null) {
      holdOrRelease(look.run, look.trial);
    }
  });
}

function stepPoint(step) {
  const marks = drawn.points.filter((point) => point.isMark && point.run === look.page);
  const unique = marks.filter((point, place) =>
    marks.findIndex((other) => other.trial === point.trial) === place);
  if (!unique.length) {
    return;
  }
  const place = unique.findIndex((point) => point.trial === look.trial);
  const next = unique[(place + step + unique.length) % unique.length];
  showTrial(next.run, next.trial, { hold: look.isHeld });
}

function fill(select, entries, value) {
  select.replaceChildren(...entries.map(([key, text]) => element("option", { value: key }, text)));
  select.value = entries.some(([key]) => String(key) === String(value)) ? value : entries[0]?.[0] ?? "";
}

// A chart that the run has nothing for says why.
function offerControls() {
  const run = currentRun();
  fill(control("metric"), run.metrics.map((metric) => [metric.name, metric.title]), view.metric);
  view.metric = control("metric").value;
  fill(control("cost"), [[-1, "INT8 share"], ...run.places.map((place, index) => [index, place])], view.cost);
  view.cost = Number(control("cost").value);
  const metric = metricOf(run);
  const has = {
    boundary: Boolean(metric?.lines.length), tradeoff: Boolean(metric), sensitivity: Boolean(metric?.effects.length),
  };
  view.isEmpty = !has[view.chart];
  all("[data-chart]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.chart === view.chart));
  });
  control("cost-choice").hidden = view.chart !== "tradeoff" || !run.places.length;
  control("log-choice").hidden = view.chart === "sensitivity";
}

function choose(changes, { isNewMetric = false } = {}) {
  Object.assign(view, changes);
  offerControls();
  if (isNewMetric) {
    view.isLog = Boolean(metricOf(currentRun())?.is_log);
    control("log").checked = view.isLog;
  }
  drawChart();
}

function startCharts() {
  all("[data-chart]").forEach((button) =>
    button.addEventListener("click", () => choose({ chart: button.dataset.chart })));
  control("metric").addEventListener("input", (event) =>
    choose({ metric: event.target.value }, { isNewMetric: true }));
  control("cost").addEventListener("input", (event) => choose({ cost: Number(event.target.value) }));
  control("log").addEventListener("input", (event) => choose({ isLog: event.target.checked }));
  control("overlay").addEventListener("input", (event) => choose({ isOverlay: event.target.checked }));
  control("overlay-choice").hidden = data.runs.length < 2;
  listeners.theme.push(drawChart);
  listeners.run.push(() => choose({}, { isNewMetric: true }));
}
