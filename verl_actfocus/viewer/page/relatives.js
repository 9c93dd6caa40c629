// Relatives of a trajectory: siblings of its group, its task at other steps, and its task in other runs.

const at = (number) => index.trajectories[number];
const numbers = (test) => index.trajectories.flatMap((one, number) => (test(one) ? [number] : []));

/** All that answered the same prompt in the same step, itself included. */
function siblings(number) {
  const me = at(number);
  return numbers((one) => ["source", "group", "step", "policy_version"].every((key) => one[key] === me[key]));
}

/** One for every step of the run at which the task was played, itself included, by step. */
function otherSteps(number) {
  const me = at(number);
  return byKey(numbers((one) => one.source === me.source && one.same_task === me.same_task), stepOf, number)
    .sort((a, b) => stepOf(at(a)) - stepOf(at(b)));
}

/** One for every other run that has the task, at the nearest step. */
function elsewhere(number) {
  const me = at(number);
  const found = numbers((one) => one.source !== me.source && one.same_task === me.same_task);
  const nearest = new Map();
  for (const one of found) {
    const best = nearest.get(at(one).source);
    if (best === undefined || distance(one, number) < distance(best, number)) nearest.set(at(one).source, one);
  }
  return [...nearest.values()];
}

/** How far two trajectories are apart: in steps first, then in their group. */
function distance(a, b) {
  const steps = Math.abs((stepOf(at(a)) ?? 0) - (stepOf(at(b)) ?? 0));
  return 1e6 * steps + Math.abs(at(a).session - at(b).session);
}

/** Of those with equal keys one: `number` itself, or the one with its place in the group, or the first. */
function byKey(candidates, key, number) {
  const rank = (one) => (one === number ? 0 : at(one).session === at(number).session ? 1 : 2);
  const kept = new Map();
  for (const one of candidates) {
    const best = kept.get(key(at(one)));
    if (best === undefined || rank(one) < rank(best)) kept.set(key(at(one)), one);
  }
  return [...kept.values()];
}

/** Two arrows with the place among relatives in between, or in words that there are none. */
function stepper(kind, label, relatives, number, describe, onStep) {
  const place = relatives.indexOf(number);
  if (relatives.length < 2) return make("p", { class: "stepper" }, `no ${label} on this page`);
  const arrow = (way, text) => make("button", {
    type: "button", "data-step": `${kind}${way}`, disabled: relatives[place + way] === undefined,
    "aria-label": `${way < 0 ? "previous" : "next"}: ${label}`, click: () => onStep(relatives[place + way]),
  }, text);
  return make("div", { class: "stepper", role: "group", "aria-label": label },
    arrow(-1, "◀"), make("span", {}, describe(place, relatives.length)), arrow(1, "▶"));
}
