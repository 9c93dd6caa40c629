// Signals: numbers in words, and where on its scale a value lies. The scales come from signals.py.

/** The menu's entry that colours by the kind of token; it needs no numbers. */
const SPANS = {
  name: "spans",
  label: "kind of token",
  meaning: "reasoning, action, or neither (tags and ends of turns)",
};
const SPAN_NAMES = { reasoning: "reasoning", action: "action", none: "neither (tag, end of turn)" };

const menu = () => [SPANS, ...index.menu];
const signalNamed = (name) => menu().find((signal) => signal.name === name);
const isDiverging = (signal) => signal.centre !== null && signal.centre !== undefined;

/** The signal that the reader has chosen, or the first of the menu that a trajectory has recorded. */
const signalOf = (body) =>
  signalNamed(current.signal) ?? index.menu.find((signal) => body.signals[signal.name]) ?? SPANS;

/** A number with four significant digits, signed where signs matter. */
function inDigits(value, signed = false) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const digits = size >= 1e5 || size < 1e-4
    ? size.toExponential(2)
    : String(Number(size.toPrecision(4)));
  return (value < 0 ? "−" : signed ? "+" : "") + digits.replace("e-", "e−");
}

const isSigned = (signal) => signal.centre === 0;
const inWords = (signal, value) =>
  value === null || value === undefined ? "not recorded" : inDigits(value, isSigned(signal));

/** Position of a value on the scale: −1 to 1 around the centre of a diverging one, 0 to 1 along a sequential one. */
function position(signal, value) {
  const on = signal.logarithmic ? (x) => Math.log(Math.max(x, 1e-300)) : (x) => x;
  const [low, high] = [on(signal.low), on(signal.high)];
  if (isDiverging(signal)) {
    const reach = high - on(signal.centre);
    return reach > 0 ? Math.max(-1, Math.min(1, (on(value) - on(signal.centre)) / reach)) : 0;
  }
  return high > low ? Math.max(0, Math.min(1, (on(value) - low) / (high - low))) : 1;
}

/** How strong the colour of a value is, and which one: "up" or "down" of the page's two. */
function colour(signal, value) {
  const at = position(signal, value);
  if (isDiverging(signal)) return { side: at < 0 ? "down" : "up", strength: Math.abs(at) };
  return { side: "up", strength: signal.lowest_strongest ? 1 - at : at };
}

/** The legend: a bar in the colours of the tokens with numbers below, or in words that nothing was recorded. */
function legend(signal, recorded) {
  if (signal === SPANS) return make("div", { class: "legend" }, spanKey(), meaning(signal));
  if (!recorded || signal.low === null) {
    return make("div", { class: "legend" },
      make("p", { class: "unrecorded" }, `${signal.label}: not recorded`), spanKey());
  }
  const kind = isDiverging(signal) ? "diverging" : signal.lowest_strongest ? "falling" : "rising";
  const middle = isDiverging(signal) ? signal.centre : (signal.low + signal.high) / 2;
  const ticks = [
    (signal.clipped_low ? "≤ " : "") + inWords(signal, signal.low),
    inWords(signal, middle),
    (signal.clipped_high ? "≥ " : "") + inWords(signal, signal.high),
  ];
  return make("div", { class: "legend" },
    make("div", { class: "scale" },
      make("div", { class: `bar ${kind}`, role: "img", "aria-label": `colours from ${ticks[0]} to ${ticks[2]}` }),
      make("div", { class: "ticks" }, ticks.map((text) => make("span", {}, text)))),
    spanKey(), meaning(signal));
}

const meaning = (signal) => make("p", { class: "meaning" }, signal.meaning);
const spanKey = () => make("p", { class: "key" },
  make("span", { class: "chip action" }, "action"), make("span", { class: "chip reasoning" }, "reasoning"),
  make("span", { class: "chip none" }, "neither"));
