// A pane: one trajectory with its heading, its arrows, its chart and its turns. Two of them stand side by side.

/** Build a pane. `onStep` gets the number of the relative that an arrow leads to. */
async function makePane(number, onStep) {
  const root = make("article", { class: "pane", "data-number": number });
  const pane = { number, body: await bodyOf(number), tokens: new Map(), root };
  pane.root.append(
    paneHead(pane), steppers(number, onStep),
    make("div", { class: "chart-box" }),
    ...turnParts(pane));
  pane.tokens.values().next().value?.setAttribute("tabindex", "0");
  return pane;
}

function paneHead(pane) {
  const one = at(pane.number);
  const facts = [
    stepOf(one) === null ? null : `step ${stepOf(one)}`,
    one.environment,
    one.task === null ? null : `task ${one.task}`,
    `group ${short(one.group)}, session ${one.session}`,
  ].filter((fact) => fact !== null);
  const end = [
    ` reward ${inDigits(one.reward, true)}`,
    `ended: ${said(one.stop_reason).replaceAll("_", " ")}`,
    `${one.tokens} tokens, ${one.action_tokens} of them action`,
  ];
  const outcomes = Object.entries(pane.body.outcomes).map(([name, value]) => `${name}: ${value ? "yes" : "no"}`);
  return make("header", {},
    make("h2", { tabindex: "-1" }, index.sources[one.source]),
    make("p", { class: "facts" }, facts.join(" · ")),
    make("p", { class: "facts" }, outcomeChip(one), [...end, ...outcomes].join(" · ")));
}

function steppers(number, onStep) {
  return make("div", { class: "steppers" },
    stepper("sibling", "siblings", siblings(number), number,
      (place, count) => `sibling ${place + 1} of ${count}`, onStep),
    stepper("step", "other steps of this task", otherSteps(number), number,
      (place, count) => `step ${said(stepOf(at(number)))} (${place + 1} of ${count})`, onStep));
}

/** Draw the chart at the width that there is. */
function drawChart(pane, signal) {
  const box = pane.root.querySelector(".chart-box");
  const svg = chart(pane, signal, Math.max(240, box.clientWidth));
  box.replaceChildren(...(svg ? [svg] : []));
}
