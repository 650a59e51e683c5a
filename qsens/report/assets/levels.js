// Lines across a chart and their names at its right end: uniform maps, the limit, floors, familiar alterations.
const DASHES = { fp32: "solid", fp16: "dash", int8: "dot" };
const LABEL_GAP = 15, LEAST_WIDTH = 560;

// Names have no room beside a narrow chart, and would be too many for several runs: the legend has them then.
function hasNamesAtTheRight() {
  return !view.isOverlay && chart().clientWidth >= LEAST_WIDTH;
}

function colourOf(precision) {
  return cssColour(precision ? `--${precision}` : "--star-text");
}

// Each as { text, value, colour, width, dash, trial }, values as they are drawn; of several runs the limits only.
function levelsOf(place, lowest) {
  const { limit, references, floor, yardsticks } = metricOf(data.runs[place]), faint = cssColour("--faint");
  const levels = limit ? [limitLevel(limit.label, limit.value)] : [];
  if (!view.isOverlay) {
    levels.push(...references.filter((line) => valuesOf(place, line.trial)?.[0] !== null).map((line) => {
      const [value, , text] = valuesOf(place, line.trial);
      return { text: `${line.label} ${text}`, value: heightOf(value, lowest), trial: line.trial, width: 1.2,
        colour: colourOf(line.precision), dash: DASHES[line.precision] ?? "longdash" };
    }));
    levels.push(...(floor ? [{ text: `${floor.label} ${floor.value.toPrecision(3)}`, value: floor.value, colour: faint,
      width: 1, dash: "dot" }] : []));
    levels.push(...yardsticks.map(([title, value, text]) => ({ text: `${title} ${text}`, value, colour: faint, width: 0 })));
  }
  return levels.filter((level) => !view.isLog || level.value > 0);
}

function limitLevel(text, value) {
  return { text, value, colour: palette().limit, width: 2.5, dash: "dash" };
}

function effectLevels(place) {
  return metricOf(data.runs[place]).effect_limits.map(([origin, value]) => limitLevel(`limit, ${origin}`, value));
}

// What the axis holds: all marks with their intervals, uniform maps and the limit; the rest where it lies within.
function rangeOf(traces, levels, also) {
  const isLog = view.isLog && view.chart !== "sensitivity", log = (value) => (isLog ? Math.log10(value) : value);
  const values = traces.flatMap((trace) => trace.y.flatMap((value, place) => {
    const half = trace.error_y?.array[place] ?? 0;
    return value === null ? [] : [value - half, value, value + half];
  }));
  values.push(...also, ...levels.filter((level) => level.width > 1).map((level) => level.value));
  const shown = values.filter((value) => !isLog || value > 0).map(log);
  const low = Math.min(...shown), high = Math.max(...shown), room = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
  return { low: low - room, high: high + room, log };
}

// Draws levels of the run from `left` to `right`; the axis holds the values `also`.
function drawLevels(place, levels, traces, layout, [left, right], also = []) {
  const range = rangeOf(traces, levels, also), isNamed = hasNamesAtTheRight();
  const shown = levels.filter((level) => range.low <= range.log(level.value) && range.log(level.value) <= range.high);
  if (!view.isOverlay && traces.length) {
    layout.yaxis.range = [range.low, range.high];
    layout.yaxis.autorange = false;
  }
  traces.push(...shown.filter((level) => level.width || !isNamed).map((level) => ({
    type: "scatter", x: level.width ? [left, right] : [right], y: level.width ? [level.value, level.value] : [level.value],
    mode: level.width ? "lines" : "markers", name: nameIn(place, level.text), hoverinfo: "name",
    hoverlabel: { namelength: -1 }, showlegend: !isNamed && level.width > 0,
    line: { color: level.colour, width: level.width, dash: level.dash },
    marker: { symbol: "line-ew-open", size: 14, color: level.colour, line: { width: 2, color: level.colour } },
    ...(level.trial === undefined ? {} : { customdata: [[place, level.trial], [place, level.trial]] }),
  })));
  if (isNamed) {
    nameLevels(shown, layout, range);
  }
}

function nameLevels(shown, layout, range) {
  const height = chart().clientHeight - 110, pixels = height / (range.high - range.low);
  const at = shown.map((level) => pixels * (range.log(level.value) - range.low));
  const moved = apart(at, LABEL_GAP);
  layout.margin.r = 24 + 6.6 * Math.max(...shown.map((level) => level.text.length), 0);
  layout.annotations = [...(layout.annotations ?? []), ...shown.map((level, index) => ({
    xref: "paper", x: 1, xanchor: "left", y: range.log(level.value), yanchor: "middle", text: plain(level.text),
    font: { size: 12, color: level.colour }, showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: level.colour,
    ax: 14, ay: at[index] - moved[index], standoff: 0,
  }))];
}

// Places with at least `gap` between neighbours, in the same order, groups around their middle.
function apart(places, gap) {
  const order = places.map((_, index) => index).sort((one, other) => places[one] - places[other]);
  const groups = [];
  order.forEach((index) => {
    groups.push({ members: [index], middle: places[index] });
    while (groups.length > 1) {
      const [before, last] = groups.slice(-2), count = before.members.length + last.members.length;
      if (last.middle - before.middle >= gap * count / 2) {
        break;
      }
      const members = [...before.members, ...last.members];
      const middle = members.reduce((sum, member) => sum + places[member], 0) / count;
      groups.splice(-2, 2, { members, middle });
    }
  });
  const moved = [...places];
  groups.forEach(({ members, middle }) => members.forEach((member, rank) => {
    moved[member] = middle + (rank - (members.length - 1) / 2) * gap;
  }));
  return moved;
}
