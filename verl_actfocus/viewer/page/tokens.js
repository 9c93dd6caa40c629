// Tokens: their colours, and a card with all numbers of the one that is pointed at or has the focus.

/** The token that the card is about. */
let carded = null;

/** A token of the model. One token of a pane is in the tab order; arrow keys move on from it. */
function tokenElement(pane, i) {
  const { tokens, spans } = pane.body;
  const newline = /^ *\n+ *$/.test(tokens[i]) ? " newline" : "";
  return make("span", { class: `token ${spans[i]}${newline}`, "data-i": i, tabindex: "-1" }, tokens[i]);
}

/** Colour all tokens of a pane by a signal. */
function paint(pane, signal) {
  const values = pane.body.signals[signal.name];
  for (const [i, token] of pane.tokens) {
    const value = signal === SPANS ? undefined : values?.[i];
    token.classList.toggle("by-span", signal === SPANS);
    token.classList.toggle("unrecorded", signal !== SPANS && (value === null || value === undefined));
    if (value === null || value === undefined) {
      token.removeAttribute("data-side");
      token.style.removeProperty("--strength");
    } else {
      const { side, strength } = colour(signal, value);
      token.dataset.side = side;
      token.style.setProperty("--strength", strength.toFixed(3));
    }
  }
}

/** Let pointer and keyboard show the card of a pane's tokens. */
function listenToTokens(pane, root) {
  root.addEventListener("pointerover", (event) => showCard(pane, event.target.closest(".token")));
  root.addEventListener("pointerleave", hideCard);
  root.addEventListener("focusin", (event) => {
    const token = event.target.closest(".token");
    if (token) enter(pane, token);
    showCard(pane, token);
  });
  root.addEventListener("focusout", hideCard);
  root.addEventListener("click", (event) => event.target.closest(".token")?.focus());
  root.addEventListener("keydown", (event) => moveFocus(pane, event));
}

/** Make a token the one that the tab key comes back to. */
function enter(pane, token) {
  pane.root.querySelector('.token[tabindex="0"]')?.setAttribute("tabindex", "-1");
  token.setAttribute("tabindex", "0");
}

function moveFocus(pane, event) {
  const token = event.target.closest(".token");
  if (!token || event.altKey || event.ctrlKey || event.metaKey) return;
  const order = [...pane.tokens.values()];
  const at = order.indexOf(token);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: order.length - 1 }[event.key];
  if (event.key === "Escape") token.blur();
  else if (to === undefined || event.shiftKey) return;
  else order[to]?.focus();
  event.preventDefault();
  event.stopPropagation();
}

function showCard(pane, token) {
  if (!token) return hideCard();
  const i = Number(token.dataset.i);
  const { body } = pane;
  const known = index.menu.filter((signal) => body.signals[signal.name]);
  const missing = index.menu.filter((signal) => !body.signals[signal.name]).map((signal) => signal.label);
  const rows = known.map((signal) => make("tr", { class: signal === signalOf(panes[0].body) && "current" },
    make("th", { scope: "row" }, signal.label), make("td", {}, inWords(signal, body.signals[signal.name][i]))));
  const card = document.getElementById("card");
  card.replaceChildren(
    make("p", { class: "quote" }, JSON.stringify(body.tokens[i])),
    make("p", {}, `${SPAN_NAMES[body.spans[i]]} · turn ${body.turns[i] + 1} · position ${i} · id ${body.ids[i]}`),
    make("table", {}, make("tbody", {}, rows)),
    ...(missing.length ? [make("p", { class: "unrecorded" }, `${UNKNOWN}: ${missing.join(", ")}`)] : []));
  card.hidden = false;
  carded = token;
  moveCard();
  markInChart(pane, i);
}

/** Put the card below its token, or above where there is no room; a narrow screen has it at its edge (style.css). */
function moveCard() {
  const card = document.getElementById("card");
  if (card.hidden || !carded) return;
  const token = carded.getClientRects()[0] ?? carded.getBoundingClientRect();
  const { width, height } = card.getBoundingClientRect();
  const below = token.bottom + 8;
  const above = token.top - height - 8;
  card.style.left = `${Math.max(8, Math.min(token.left, innerWidth - width - 8))}px`;
  card.style.top = `${below + height < innerHeight || above < 0 ? below : above}px`;
}

function hideCard() {
  document.getElementById("card").hidden = true;
  document.querySelectorAll(".chart .mark").forEach((mark) => mark.setAttribute("visibility", "hidden"));
}
