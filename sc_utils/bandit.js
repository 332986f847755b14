// One decision, to be played with: behaviour and success probabilities in, three equal numbers out.
// `compute` is the mathematics, tested against the package; `render` has the anywidget signature.

import { NAMES, element, number, percent, slider } from "./controls.js";

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

const often = (value) => ({ value, max: 10, step: 1, show: (x) => x.toFixed(0) });
const chance = (value) => ({ value, max: 1, step: 0.005, show: (x) => x.toFixed(3) });

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
        slider("how often it is played", often(weights[a]), (x) => { weights[a] = x; draw(); }),
        slider("how often it succeeds", chance(q), (x) => { Q[a] = x; draw(); }),
      ),
    );
  });
  el.replaceChildren(controls, policies, numbers, words);
  draw();
}
