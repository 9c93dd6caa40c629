// Elements. Text only ever becomes text nodes: nothing that a model or an environment wrote is parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element; functions among the attributes listen to the event of that name, null leaves one out. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A select with a label. `options` are [value, text]. */
function labelledSelect(label, options, value, onChange, attributes = {}) {
  const select = make("select", { change: () => onChange(select.value), ...attributes },
    options.map(([key, text]) => make("option", { value: key, selected: key === value }, text)));
  return make("label", { class: "field" }, make("span", {}, label), select);
}

/** Say something to screen readers and in the status line. */
function announce(text) {
  document.getElementById("status").textContent = text;
}
