// The chart: the signal over positions, with the borders of spans and turns.

const CHART = { height: 170, left: 58, right: 8, top: 20, strip: 8, bottom: 34 };

/** Draw a signal of a pane over the positions of its tokens. */
function chart(pane, signal, width) {
  const { body } = pane;
  const values = signal === SPANS ? null : body.signals[signal.name];
  if (!values || signal.low === null) return null;
  const count = body.tokens.length;
  const inner = Math.max(40, width - CHART.left - CHART.right);
  const floor = CHART.height - CHART.bottom;
  const x = (i) => CHART.left + (inner * i) / count;
  const y = (value) => {
    const at = isDiverging(signal) ? (position(signal, value) + 1) / 2 : position(signal, value);
    return floor - at * (floor - CHART.top);
  };
  const base = isDiverging(signal) ? y(signal.centre) : signal.lowest_strongest ? CHART.top : floor;
  const bar = Math.max(1, (inner / count) * 0.8);
  const bars = { reasoning: "", action: "", none: "" };
  values.forEach((value, i) => {
    if (value === null) return;
    // A value at the base is a short mark: it was recorded.
    const end = Math.abs(y(value) - base) < 1.5 ? base - (base === CHART.top ? -1.5 : 1.5) : y(value);
    bars[body.spans[i]] += `M${(x(i) + inner / count / 2).toFixed(1)} ${base.toFixed(1)}V${end.toFixed(1)}`;
  });
  const ends = `from ${inWords(signal, signal.low)} to ${inWords(signal, signal.high)}`;
  const svg = draw("svg", {
    class: "chart", width, height: CHART.height, viewBox: `0 0 ${width} ${CHART.height}`,
    role: "img", "aria-label": `${signal.label} over ${count} positions, ${ends}`,
  },
    turnBands(body, x, floor), spanStrip(body, x, floor), axis(signal, y, base, width),
    Object.entries(bars).map(([span, path]) => draw("path", { class: `bars ${span}`, d: path, "stroke-width": bar })),
    draw("rect", {
      class: "mark", visibility: "hidden",
      y: CHART.top, height: floor - CHART.top + CHART.strip, width: Math.max(2, bar),
    }));
  const at = (event) => Math.floor(((event.clientX - svg.getBoundingClientRect().left - CHART.left) / inner) * count);
  svg.addEventListener("pointermove", (event) => showCard(pane, pane.tokens.get(at(event))));
  svg.addEventListener("pointerleave", hideCard);
  svg.addEventListener("click", (event) => pane.tokens.get(at(event))?.focus());
  svg.mark = (i) => {
    const mark = svg.querySelector(".mark");
    mark.setAttribute("x", x(i));
    mark.setAttribute("visibility", "visible");
  };
  return svg;
}

/** Stretches of equal values: [value, first, behind the last]. */
function stretches(values) {
  const found = [];
  values.forEach((value, i) => {
    if (found.length && found.at(-1)[0] === value) found.at(-1)[2] = i + 1;
    else found.push([value, i, i + 1]);
  });
  return found;
}

function turnBands(body, x, floor) {
  return stretches(body.turns).flatMap(([turn, start, stop]) => {
    const shape = { x: x(start), width: x(stop) - x(start), y: CHART.top, height: floor - CHART.top + CHART.strip };
    const band = draw("rect", { class: turn < 0 ? "band environment" : "band", ...shape });
    const words = turn < 0 ? "environment" : `turn ${turn + 1}`;
    const fits = x(stop) - x(start) > 8 * words.length;
    return fits ? [band, draw("text", { x: x(start) + 3, y: CHART.top - 6 }, words)] : [band];
  });
}

/** Below the bars, the span of every position; a line where it changes. */
function spanStrip(body, x, floor) {
  const spans = body.spans.map((span, i) => (body.turns[i] < 0 ? "environment" : span));
  return stretches(spans).flatMap(([span, start, stop]) => [
    draw("rect", {
      class: `span ${span}`, x: x(start), width: x(stop) - x(start), y: floor + 2, height: CHART.strip - 2,
    }),
    draw("line", { class: "border", x1: x(start), x2: x(start), y1: CHART.top, y2: floor + CHART.strip }),
  ]);
}

function axis(signal, y, base, width) {
  const ends = [...new Set([signal.low, ...(isDiverging(signal) ? [signal.centre] : []), signal.high])];
  return [
    draw("line", { class: "base", x1: CHART.left, x2: width - CHART.right, y1: base, y2: base }),
    ...ends.map((value) => draw("text", { class: "tick", x: CHART.left - 6, y: y(value) + 4 }, inWords(signal, value))),
    draw("text", { x: CHART.left, y: CHART.height - 8 }, "position in the trajectory →"),
  ];
}

/** Show where a token is. */
function markInChart(pane, i) {
  pane.root.querySelector(".chart")?.mark(i);
}
