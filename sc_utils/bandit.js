// One decision, to be played with: behaviour and success probabilities in, three equal numbers out.
// `compute` is the mathematics, tested against the package; `render` has the anywidget signature.

export function compute({ weights, Q }) {
  const total = weights.reduce((sum, x) => sum + x, 0);
  const policy = weights.map((x) => x / total);
  const V = policy.reduce((sum, p, a) => sum + p * Q[a], 0);
  const ratio = Q.map((q) => (V > 0 ? q / V : 1));
  const after = policy.map((p, a) => p * ratio[a]);
  const mean = (f) => policy.reduce((sum, p, a) => sum + p * f(a), 0);
  return {
    policy,
    after,
    V,
    improvement: after.reduce((sum, p, a) => sum + p * (ratio[a] - 1), 0),
    movement: policy.reduce((sum, p, a) => sum + (p > 0 ? (after[a] - p) ** 2 / p : 0), 0),
    influence: V > 0 ? mean((a) => (Q[a] - V) ** 2) / V ** 2 : 0,
  };
}

const NAMES = ["A", "B", "C", "D", "E", "F"];
const percent = (x) => `${(100 * x).toFixed(1)}%`;
const number = (x) => (x < 0.001 && x > 0 ? x.toExponential(1) : x.toFixed(3));

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function slider(label, value, max, step, onInput) {
  const shown = element("output");
  const input = element("input", { type: "range", min: 0, max, step, value });
  const update = () => {
    shown.textContent = Number(input.value).toFixed(step < 0.01 ? 3 : step < 1 ? 2 : 0);
  };
  input.addEventListener("input", () => {
    update();
    onInput(Number(input.value));
  });
  update();
  return element("label", {}, element("span", {}, label), input, shown);
}

function bar(share, kind) {
  const fill = element("span", { class: kind });
  fill.style.inlineSize = percent(Math.min(share, 1));
  return element("span", { class: "track", "aria-hidden": "true" }, fill);
}

export function render({ model, el }) {
  const weights = [...model.get("weights")];
  const Q = [...model.get("Q")];
  const controls = element("div", { class: "controls" });
  const policies = element("div", { class: "bars" });
  const numbers = element("div", { class: "bars" });
  const words = element("p", { "aria-live": "polite" });

  const draw = () => {
    if (!weights.some((x) => x > 0)) weights[0] = 1; // somebody has to play
    const result = compute({ weights, Q });
    policies.replaceChildren(
      ...Q.flatMap((_, a) => [
        element("span", {}, `${NAMES[a]} before`),
        bar(result.policy[a], "before"),
        element("span", {}, percent(result.policy[a])),
        element("span", {}, `${NAMES[a]} after`),
        bar(result.after[a], "after"),
        element("span", {}, percent(result.after[a])),
      ]),
    );
    const three = { improvement: "better", movement: "moved", influence: "matters" };
    numbers.replaceChildren(
      ...Object.entries(three).flatMap(([key, word]) => [
        element("span", {}, word),
        bar(result[key] / (1 + result[key]), "equal"),
        element("span", {}, number(result[key])),
      ]),
    );
    words.textContent =
      result.V > 0
        ? `Success rises from ${percent(result.V)} to ` +
          `${percent(result.V * (1 + result.influence))}: relative improvement, movement and ` +
          `influence are ${number(result.influence)}, all three.`
        : "Nothing succeeds, so there is nothing to imitate: the behaviour stays.";
  };

  Q.forEach((q, a) => {
    const name = NAMES[a];
    controls.append(
      element(
        "fieldset",
        {},
        element("legend", {}, `Action ${name}`),
        slider("how often it is played", weights[a], 10, 1, (x) => { weights[a] = x; draw(); }),
        slider("how often it succeeds", q, 1, 0.005, (x) => { Q[a] = x; draw(); }),
      ),
    );
  });
  el.replaceChildren(controls, policies, numbers, words);
  draw();
}
