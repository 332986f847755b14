// What the pictures with handles share: elements, sliders, and numbers as words.

export const NAMES = ["A", "B", "C", "D", "E", "F"];
// What differs by rounding alone must look the same.
export const clean = (x) => Number(x.toPrecision(9));
export const percent = (x) => `${clean(100 * x).toFixed(1)}%`;
export const number = (x) =>
  x < 0.001 && x > 0 ? clean(x).toExponential(1) : clean(x).toFixed(3);

export function fill(node, attributes, children = []) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// A range with its name and its number; `set` moves it, also to where its steps do not reach.
export function slider(label, { value, min = 0, max, step, show }, onInput) {
  const shown = element("output");
  const input = element("input", { type: "range", min, max, step });
  const say = (x) => {
    shown.textContent = show(x);
    input.setAttribute("aria-valuetext", show(x));
  };
  const set = (x) => {
    input.value = x;
    say(x);
  };
  input.addEventListener("input", () => {
    say(Number(input.value));
    onInput(Number(input.value));
  });
  set(value);
  const node = element("label", {}, element("span", {}, label), input, shown);
  return Object.assign(node, { set });
}
