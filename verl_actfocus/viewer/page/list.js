// The list of trajectories: filters, and a table that every column sorts.

const UNKNOWN = "not recorded";
const ANY = "";
const outcome = (one) => (one.success === null ? UNKNOWN : one.success ? "solved" : "not solved");
const stepOf = (one) => (one.step ?? one.policy_version);
const said = (value) => (value === null || value === undefined ? UNKNOWN : String(value));

/** A group with what tells it from others at a glance. */
const named = (one) => short(one.group) + (one.task === null ? "" : ` · task ${one.task}`);

/**
 * Columns, what matters first: a narrow screen has the rest of them to the right. `value` sorts, `text` is shown (the
 * value itself if left out), `choice` in the filter if that says more.
 */
const COLUMNS = [
  { key: "run", label: "run", value: (one) => one.source, text: (one) => index.sources[one.source] },
  { key: "step", label: "step", value: stepOf, number: true },
  { key: "task", label: "task", value: (one) => one.task, number: true },
  { key: "outcome", label: "outcome", value: outcome },
  { key: "reward", label: "reward", value: (one) => one.reward, text: (one) => inDigits(one.reward, true), number: true },
  { key: "turns", label: "turns", value: (one) => one.turns, number: true },
  { key: "tokens", label: "tokens", value: (one) => one.tokens, number: true },
  { key: "actions", label: "action tokens", value: (one) => one.action_tokens, number: true },
  { key: "stop", label: "stop reason", value: (one) => one.stop_reason },
  { key: "group", label: "group", value: (one) => one.group, text: (one) => short(one.group), choice: named },
  { key: "session", label: "session", value: (one) => one.session, number: true },
  { key: "environment", label: "environment", value: (one) => one.environment },
];
const FILTERS = ["run", "outcome", "stop", "step", "group"];

/** Choices of the reader; they outlive a visit to a trajectory. */
const choices = { filters: noFilters(), text: "", sort: null, descending: false };
/** Numbers of the trajectories in the list, in its order. */
let listed = [];

function noFilters() {
  return Object.fromEntries(FILTERS.map((key) => [key, ANY]));
}

const column = (key) => COLUMNS.find((one) => one.key === key);
const shown = (one, { value, text }) => (text && value(one) !== null ? text(one) : said(value(one)));
const short = (text) => (text.length > 14 ? `${text.slice(0, 12)}…` : text);

/** Ascending, texts in their language's order, what was not recorded behind everything else either way. */
function compare(first, second, descending) {
  const missing = (value) => value === null || value === undefined || value === UNKNOWN;
  if (missing(first) || missing(second)) return Number(missing(first)) - Number(missing(second));
  const order = typeof first === "number" ? first - second
    : String(first).localeCompare(String(second), undefined, { numeric: true });
  return descending ? -order : order;
}

/** Choose and order the trajectories; searching text unpacks every one once. */
async function chosen() {
  const all = index.trajectories;
  let numbers = all.map((_, number) => number);
  for (const key of FILTERS) {
    const wanted = choices.filters[key];
    if (wanted !== ANY) numbers = numbers.filter((n) => said(column(key).value(all[n])) === wanted);
  }
  const wanted = choices.text.trim().toLowerCase();
  if (wanted) {
    const found = [];
    for (const n of numbers) if ((await textOf(n)).includes(wanted)) found.push(n);
    numbers = found;
  }
  if (choices.sort) {
    const { value } = column(choices.sort);
    numbers.sort((a, b) => compare(value(all[a]), value(all[b]), choices.descending) || a - b);
  }
  return numbers;
}

const LEAD = "What the agent wrote, turn by turn, and what each token counted for. Open one to see its tokens in colour.";

/** Show the list in the page. */
async function showList(main) {
  document.title = "Trajectories";
  const table = make("table", { class: "list" });
  const count = make("p", { class: "count", id: "status", role: "status" });
  let latest = 0;
  const refresh = async () => {
    const mine = ++latest;
    if (choices.text.trim()) count.textContent = "Searching …";
    const numbers = await chosen();
    if (mine !== latest) return;
    listed = numbers;
    table.replaceChildren(...tableParts(numbers, refresh));
    const all = index.trajectories.length;
    count.textContent = numbers.length === all ? `${all} trajectories` : `${numbers.length} of ${all} trajectories`;
  };
  main.replaceChildren(
    make("header", { class: "top" },
      make("h1", {}, "Trajectories"),
      make("p", { class: "lead" }, LEAD),
      index.omissions.map((text) => make("p", { class: "notice" }, text))),
    filterBar(refresh), count, make("p", { class: "sideways" }, "More columns to the right →"),
    make("div", { class: "scroll" }, table));
  await refresh();
}

function filterBar(refresh) {
  const search = make("input", {
    type: "search", value: choices.text, placeholder: "words of the model or the environment", "data-filter": "text",
    input: () => {
      choices.text = search.value;
      clearTimeout(search.waiting);
      search.waiting = setTimeout(refresh, 150);
    },
  });
  const stay = (event) => event.preventDefault();
  const bar = make("form", { class: "filters", role: "search", "aria-label": "Filter trajectories", submit: stay },
    make("label", { class: "field wide" }, make("span", {}, "text"), search),
    FILTERS.map((key) => filterSelect(key, refresh)));
  bar.append(make("button", { type: "button", class: "quiet", click: () => {
    Object.assign(choices, { text: "", filters: noFilters() });
    bar.querySelectorAll("select, input").forEach((field) => { field.value = ""; });
    refresh();
  } }, "Clear"));
  return bar;
}

function filterSelect(key, refresh) {
  const { label, value, text, choice } = column(key);
  const names = new Map();
  const words = { value, text: choice ?? text };
  for (const one of index.trajectories) names.set(said(value(one)), [value(one), shown(one, words)]);
  const sorted = [...names].sort(([, [a]], [, [b]]) => compare(a, b, false));
  const options = [[ANY, "any"], ...sorted.map(([name, [, text]]) => [name, text])];
  const filter = (name) => {
    choices.filters[key] = name;
    refresh();
  };
  return labelledSelect(label, options, choices.filters[key], filter, { "data-filter": key });
}

function tableParts(numbers, refresh) {
  const all = index.trajectories;
  const columns = COLUMNS.filter(({ value }) => all.some((one) => value(one) !== null && value(one) !== undefined));
  const head = make("thead", {}, make("tr", {}, columns.map((one) => heading(one, refresh))));
  const rows = numbers.map((number) => row(number, columns));
  const body = make("tbody", { click: openRow }, rows.length ? rows
    : make("tr", {}, make("td", { colspan: columns.length, class: "empty" }, "No trajectory passes these filters.")));
  return [make("caption", { class: "unseen" }, "Trajectories; the buttons in the head sort"), head, body];
}

function heading(one, refresh) {
  const sorted = choices.sort === one.key;
  const sort = async () => {
    choices.descending = sorted ? !choices.descending : Boolean(one.number);
    choices.sort = one.key;
    await refresh();
    document.querySelector(`th button[data-sort="${one.key}"]`).focus();
  };
  const way = choices.descending ? "descending" : "ascending";
  return make("th", { scope: "col", class: one.number && "number", "aria-sort": sorted && way },
    make("button", { type: "button", "data-sort": one.key, click: sort }, one.label,
      make("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (choices.descending ? " ▼" : " ▲") : "")));
}

function row(number, columns) {
  const one = index.trajectories[number];
  return make("tr", { "data-number": number }, columns.map((kind, place) => {
    const text = shown(one, kind);
    const content = kind.key === "outcome" ? outcomeChip(one) : text;
    const cell = place === 0 ? make("a", { href: addressOf({ view: number }) }, content) : content;
    const title = kind.key === "group" && one.group;
    return make("td", { class: kind.number && "number", title, "data-missing": text === UNKNOWN }, cell);
  }));
}

function outcomeChip(one) {
  const kind = one.success === null ? "unknown" : one.success ? "solved" : "unsolved";
  return make("span", { class: `outcome ${kind}` }, outcome(one));
}

/** A click anywhere in a row opens it; a link in it works by itself. */
function openRow(event) {
  const number = event.target.closest("tr")?.dataset.number;
  if (number !== undefined && !event.target.closest("a") && !String(getSelection())) go({ view: Number(number) });
}
