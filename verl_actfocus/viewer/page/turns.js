// A trajectory's text: the prompt, then turn by turn the environment's frame beside what the model answered.

/** Build the turns of a pane, and keep its tokens in `pane.tokens` (position → element). */
function turnParts(pane) {
  const { body } = pane;
  const played = body.played ?? [];
  const parts = [prompt(body)];
  for (const [turn, start, stop] of stretches(body.turns)) {
    if (turn < 0) parts.push(environmentSays(body, start, stop));
    else parts.push(turnSection(pane, turn, played[turn], start, stop));
  }
  if (body.failure) parts.push(make("p", { class: "notice" }, `The episode failed: ${body.failure}`));
  if (body.played) parts.push(make("section", { class: "turn last" }, frame("At the end", body.final_observation)));
  return parts;
}

const prompt = (body) => make("details", { class: "given" },
  make("summary", {}, "First prompt"), make("pre", {}, body.prompt));

function environmentSays(body, start, stop) {
  return make("details", { class: "given" },
    make("summary", {}, `The environment's answer (${stop - start} tokens, not trained on)`),
    make("pre", {}, body.tokens.slice(start, stop).join("")));
}

function turnSection(pane, turn, played, start, stop) {
  const label = `Tokens of turn ${turn + 1}; arrow keys move along them`;
  const text = make("div", { class: "text", role: "group", "aria-label": label });
  for (let i = start; i < stop; i++) {
    pane.tokens.set(i, tokenElement(pane, i));
    text.append(pane.tokens.get(i));
  }
  listenToTokens(pane, text);
  const reward = pane.body.turn_rewards?.[turn] ?? played?.reward;
  return make("section", { class: "turn" },
    make("h3", {}, `Turn ${turn + 1}`),
    frame("The model saw", played?.observation),
    make("div", { class: "answer" }, text, make("p", { class: "result" },
      played ? make("span", {}, actions(played)) : null,
      make("span", {}, `reward ${reward === undefined || reward === null ? UNKNOWN : inDigits(reward, true)}`),
      played?.problem ? make("span", { class: "problem" }, played.problem) : null)));
}

function actions(played) {
  if (played.executed.length) return `executed: ${played.executed.join(", ")}`;
  if (played.parsed.length) return `named ${played.parsed.join(", ")}; nothing was executed`;
  return "no action was read from it";
}

/** The state as the environment writes it. */
function frame(title, observation) {
  return make("figure", { class: "frame" }, make("figcaption", {}, title),
    observation ? make("pre", {}, observation) : make("p", { class: "unrecorded" }, "state not recorded"));
}
