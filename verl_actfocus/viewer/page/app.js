// What is shown follows the address: nothing for the list, #view=NAME&with=NAME&signal=NAME for trajectories.

/** What the page shows: numbers of the trajectories, and the signal that the reader has chosen. */
const current = { view: null, beside: null, signal: null };
let panes = [];
/** The list's place, to come back to. */
let place = { scroll: 0, number: null };

/** The address that shows a trajectory; what is left out stays as it is. */
function addressOf(wanted) {
  const { view, beside, signal } = { ...current, beside: null, ...wanted };
  if (view === null) return "#";
  const words = new URLSearchParams({ view: at(view).name });
  if (beside !== null && beside !== undefined) words.set("with", at(beside).name);
  if (signal) words.set("signal", signal);
  return `#${words}`;
}

/** Show something else. Stepping along relatives replaces the entry of the history: back leads to the list. */
function go(wanted, replace = false) {
  const address = addressOf(wanted);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  return route();
}

async function route() {
  const words = new URLSearchParams(location.hash.slice(1));
  const main = document.getElementById("main");
  const find = (name) => (words.has(name) ? index.trajectories.findIndex((one) => one.name === words.get(name)) : null);
  const [view, beside] = [find("view"), find("with")];
  hideCard();
  if (current.view === null) place = { scroll: scrollY, number: view };
  current.signal = signalNamed(words.get("signal")) ? words.get("signal") : current.signal;
  if (view === null || view < 0) {
    const from = current.view;
    Object.assign(current, { view: null, beside: null });
    panes = [];
    await showList(main);
    const unknown = `There is no trajectory ${words.get("view")} on this page.`;
    if (view === -1) main.prepend(make("p", { class: "notice" }, unknown));
    if (from !== null) {
      scrollTo(0, place.scroll);
      main.querySelector(`tr[data-number="${from}"] a`)?.focus({ preventScroll: true });
    }
    return;
  }
  const first = current.view === null;
  Object.assign(current, { view, beside: beside === -1 ? null : beside });
  await showTrajectories(main, first);
}

async function showTrajectories(main, first) {
  const shownNow = { ...current };
  const made = [await makePane(current.view, stepLeft)];
  if (current.beside !== null) made.push(await makePane(current.beside, stepRight));
  // Somebody was quicker with the next arrow.
  if (shownNow.view !== current.view || shownNow.beside !== current.beside) return;
  const focused = document.activeElement?.dataset.step;
  panes = made;
  document.title = made.map((pane) => index.sources[at(pane.number).source]).join(" | ") + " · Trajectories";
  main.replaceChildren(toolbar(), make("p", { class: "unseen", id: "status", role: "status" }),
    make("div", { class: made.length > 1 ? "panes two" : "panes" }, made.map((pane) => pane.root)));
  showSignal();
  announce(document.title);
  if (first) scrollTo(0, 0);
  const same = main.querySelector(`[data-step="${focused}"]:not(:disabled)`);
  if (first || focused) (same ?? main.querySelector("h2")).focus({ preventScroll: true });
}

/** Whether a trajectory is of the run that stands on the right. */
const besideNow = (number) => current.beside !== null && at(number).source === at(current.beside).source;

/** The other run's pane follows: the same task at the nearest step. */
const stepLeft = (number) => go({ view: number, beside: elsewhere(number).find(besideNow) }, true);

const stepRight = (number) => go({ beside: number }, true);

function toolbar() {
  const there = (signal) => panes.some((pane) => recorded(pane, signal));
  const signals = menu().map((signal) => [signal.name, signal.label + (there(signal) ? "" : ` (${UNKNOWN})`)]);
  const others = elsewhere(current.view);
  const partner = others.find(besideNow);
  const nobody = ["", others.length ? "nothing" : "no other run has this task"];
  const beside = [nobody, ...others.map((one) => [String(one), index.sources[at(one).source]])];
  return make("div", { class: "toolbar" },
    make("a", { class: "back", href: "#" }, "◀ All trajectories"),
    labelledSelect("colour tokens by", signals, signalOf(panes[0].body).name, chooseSignal, { id: "signal" }),
    labelledSelect("side by side with", beside, partner === undefined ? "" : String(partner),
      (value) => go({ beside: value === "" ? null : Number(value) }, true), { id: "beside", disabled: !others.length }),
    make("details", { class: "keys" }, make("summary", {}, "Keys"), keyHelp()),
    make("div", { id: "legend" }));
}

const KEYS = [
  ["← →", "siblings of the group; along the tokens when one has the focus"],
  ["Shift ← →", "the same task at other steps"],
  ["b", "side by side with the same task in the next run"],
  ["s", "to the menu of signals"],
  ["Tab", "to the tokens; Home and End along them, Esc leaves them"],
  ["Esc", "back to the list"],
];
const keyHelp = () => make("dl", {}, KEYS.map(([key, what]) => [make("dt", {}, key), make("dd", {}, what)]));

const recorded = (pane, signal) => signal === SPANS || Boolean(pane.body.signals[signal.name]);

function chooseSignal(name) {
  current.signal = name;
  history.replaceState(null, "", addressOf({ beside: current.beside }));
  showSignal();
}

/** Bring colours, legend and charts to the signal. */
function showSignal() {
  const signal = signalOf(panes[0].body);
  for (const pane of panes) {
    paint(pane, signal);
    drawChart(pane, signal);
    if (panes.length > 1 && !recorded(pane, signal)) {
      const words = `${signal.label}: not recorded in this trajectory`;
      pane.root.querySelector(".chart-box").append(make("p", { class: "unrecorded" }, words));
    }
  }
  document.getElementById("legend").replaceChildren(legend(signal, panes.some((pane) => recorded(pane, signal))));
}

/** Keys of the trajectory view. Fields keep theirs. */
function onKey(event) {
  if (current.view === null || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("input, select")) return;
  if (event.key === "Escape") return void go({ view: null });
  if (event.key === "s") { event.preventDefault(); return document.getElementById("signal").focus(); }
  if (event.key === "b") return nextBeside();
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!way) return;
  const pane = event.target.closest(".pane") ?? panes[0].root;
  event.preventDefault();
  pane.querySelector(`[data-step="${event.shiftKey ? "step" : "sibling"}${way}"]:not(:disabled)`)?.click();
}

function nextBeside() {
  const others = [null, ...elsewhere(current.view)];
  const now = others.findIndex((one) => one !== null && besideNow(one));
  go({ beside: others[(Math.max(0, now) + 1) % others.length] }, true);
}

async function begin() {
  if (!("DecompressionStream" in window)) {
    const words = "This browser is too old for the page: it cannot unpack compressed data. Those of 2023 and later can.";
    document.getElementById("main").replaceChildren(make("p", { class: "notice" }, words));
    return;
  }
  document.body.append(make("div", { id: "card", role: "status", hidden: true }));
  index = await unpack("index");
  addEventListener("hashchange", route);
  addEventListener("keydown", onKey);
  addEventListener("resize", () => panes.forEach((pane) => drawChart(pane, signalOf(panes[0].body))));
  addEventListener("scroll", moveCard, { passive: true });
  await route();
  document.documentElement.dataset.ready = "yes";
}

begin();
