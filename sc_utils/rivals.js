// One bandit's policy, updated in five ways: how far each moves it, and what it gains.
// `compute` is the mathematics, tested against the package; `render` has the anywidget signature.

import { NAMES, element, fill, number, percent, slider, svg } from "./controls.js";

const TIE = 1e-13; // actions that differ by less, relatively, are equally good
const sum = (f, over) => over.reduce((total, x, i) => total + f(x, i), 0);

// The policy on the trust-region path whose step is `step` of the arms that are left: of the odds
// of those that dropped out, which succeed least, and of the spread of w = Q/V.
function along(p, w, step) {
  const left = p.map((_, i) => i).filter((i) => p[i] > 0).sort((i, j) => w[j] - w[i]);
  for (;;) {
    const [best, worst] = [left[0], left.at(-1)];
    const mass = sum((i) => p[i], left);
    const lost = sum((x, i) => (left.includes(i) ? 0 : x), p) / mass;
    const mean = sum((i) => p[i] * w[i], left) / mass;
    const equal = w[best] - w[worst] <= TIE * w[best];
    const eta = equal ? 0 : step(lost, sum((i) => p[i] * (w[i] - mean) ** 2, left));
    const ratio = (i) => 1 + lost + eta * (w[i] - mean);
    if (equal || ratio(worst) >= 0) return p.map((x, i) => (left.includes(i) ? x * ratio(i) : 0));
    left.pop();
  }
}

// p times a factor of each arm that is played, normalised; the factors are known by their logs.
function tilted(p, logs) {
  const most = Math.max(...logs.filter((_, i) => p[i] > 0));
  const weights = p.map((x, i) => (x > 0 ? x * Math.exp(logs[i] - most) : 0));
  const total = sum((x) => x, weights);
  return weights.map((x) => x / total);
}

const ratios = (Q, V) => Q.map((q) => q / V);
// Sliders make an update the stronger, the further to the right: 4 octaves to each side of the
// strength that success conditioning has, or would have.
const octaves = (t) => 2 ** (t / 8);
const wide = { min: -32, max: 32, value: 0 };

export const UPDATES = {
  step: {
    name: "success conditioning, step η",
    rule: "π₀ [η Q/V − ν]₊: the trust-region path itself, through π₊ at η = 1.",
    label: "step η",
    range: wide,
    at: octaves,
    policy: (p, Q, V, eta) => along(p, ratios(Q, V), () => eta),
  },
  tries: {
    name: "best of n",
    rule: "The first success of n tries, or else the last try: on the path, up to π₊.",
    label: "tries n",
    range: { min: 0, max: 17, value: 3 },
    // 1, 2, 3, 4, 6, 8, 12, …
    at: (k) => (k % 2 ? 2 ** ((k + 1) / 2) : Math.floor(3 * 2 ** (k / 2 - 1))),
    show: (n) => `${n}`,
    policy: (p, Q, V, n) =>
      along(p, ratios(Q, V), () => -Math.expm1((n - 1) * Math.log1p(-V))),
  },
  penalty: {
    name: "χ² penalty β",
    rule: "π₀ [(Q − ν)/β]₊: the path once more, with η = V/β.",
    label: "penalty β, falling",
    range: wide,
    at: (t, V) => V / octaves(t),
    policy: (p, Q, V, beta) => along(p, ratios(Q, V), () => V / beta),
  },
  tilt: {
    name: "exponential tilt, temperature β",
    rule: "∝ π₀ exp(Q/β): it starts along the path, but need not stay on it.",
    label: "temperature β, falling",
    range: wide,
    at: (t, V) => V / octaves(t),
    policy: (p, Q, V, beta) => tilted(p, Q.map((q) => q / beta)),
  },
  guidance: {
    name: "guidance, weight γ",
    rule: "∝ π₀ Q^γ, a tilt by log Q: through π₊ at γ = 1. What never succeeds is dropped at once.",
    label: "weight γ",
    range: wide,
    at: octaves,
    policy: (p, Q, V, gamma) => tilted(p, Q.map((q) => gamma * Math.log(q))),
  },
};

export function compute({ policy, Q, update, strength }) {
  const V = sum((p, i) => p * Q[i], policy);
  const w = ratios(Q, V);
  const gains = (x) => sum((p, i) => (x[i] - p) * (w[i] - 1), policy);
  const updated = UPDATES[update].policy(policy, Q, V, strength);
  const movement = sum((p, i) => (p > 0 ? (updated[i] - p) ** 2 / p : 0), policy);
  const gain = gains(updated);
  const most = gains(furthest(policy, w, movement));
  const share = movement > 0 ? Math.min(gain / most, 1) : 1;
  return { V, updated, movement, gain, rate: V * (1 + gain), most, share };
}

// The policy that gains most of those that move so far.
const furthest = (p, w, movement) =>
  along(p, w, (lost, spread) => Math.sqrt(Math.max(movement - lost, 0) / spread));

const WIDE = 340;
const [LEFT, RIGHT] = [8, 328];
const [TOP, BOTTOM] = [24, 204]; // of the plane
const [HIGH, LOW] = [258, 340]; // of the strip below it
const [CEILING, FLOOR] = [52, 136]; // of the bars
const SAME = 1e-9; // what differs by less, differs by rounding
const path = (points) => `M${points.map((z) => z.map((x) => x.toFixed(2)).join(" ")).join("L")}`;
const text = (x, y, words, anchor = "start") =>
  svg("text", { x, y, "text-anchor": anchor }, words);
const POINTS = Array.from({ length: 101 }, (_, k) => k / 100);

function verdict({ V, updated, movement, gain, rate, most, share }, after) {
  if (movement === 0) return "Nothing moves: this is the behaviour, π₀.";
  const same = updated.every((x, i) => Math.abs(x - after[i]) < SAME);
  const now =
    `The success rate goes from ${percent(V)} to ${percent(rate)}: a gain of ${percent(gain)} ` +
    `for a movement of ${number(movement)}. `;
  if (share > 1 - SAME) {
    const which = same ? "This is success conditioning, π₊" : "It is on the trust-region path";
    return `${now}${which}: nothing that moves so far gains more.`;
  }
  const part = share > 0.9994 ? "more than 99.9%" : percent(share);
  const path = `At this movement the trust-region path gains ${percent(most)}`;
  return `${now}${path}; this update reaches ${part} of that.`;
}

export function render({ model, el }) {
  const [policy, Q] = [model.get("policy"), model.get("Q")];
  const state = { policy, Q, update: "step", strength: 1 };
  const { V, updated: after, movement: moves, gain: gained } = compute(state);
  const w = ratios(Q, V);
  const top = Math.max(...w.filter((_, i) => policy[i] > 0));
  const longest = 1 / sum((p, i) => (top - w[i] <= TIE * top ? p : 0), policy) - 1;

  // All curves, as points (movement, gain, share of the gain that is possible).
  const curves = Object.entries(UPDATES).map(([update, { at, range }]) => {
    const low = range === wide ? 2 * range.min : range.min; // from close to no movement on
    return Array.from({ length: range.max - low + 1 }, (_, k) => {
      const { movement, gain, share } = compute({ policy, Q, update, strength: at(low + k, V) });
      return [movement, gain, share];
    });
  });
  const least = Math.min(...curves.flat().map((point) => point[2]), 0.95);
  const bottom = Math.floor(20 * least) / 20;
  const across = (movement) => LEFT + (RIGHT - LEFT) * Math.sqrt(movement / longest);
  const up = (gain) => BOTTOM - ((BOTTOM - TOP) * gain) / (top - 1);
  const height = (share) => LOW - ((LOW - HIGH) * (share - bottom)) / (1 - bottom);
  const best = POINTS.map((x) => {
    const there = furthest(policy, w, x * x * longest);
    return [LEFT + (RIGHT - LEFT) * x, up(sum((p, i) => (there[i] - p) * (w[i] - 1), policy))];
  });
  const lines = Object.fromEntries(
    Object.keys(UPDATES).map((update, k) => {
      const above = curves[k].map(([m, gain]) => [across(m), up(gain)]);
      const below = curves[k].map(([m, _, share]) => [across(m), height(share)]);
      const d = path(above) + path(below);
      return [update, svg("path", { class: `curve ${update}`, d })];
    }),
  );
  const marks = [up(gained), height(1)].map((cy) =>
    svg("circle", { class: "mark", cx: across(moves), cy, r: 4.5 }),
  );
  const dots = [0, 1].map(() => svg("circle", { class: "dot", r: 6 }));
  const thirds = [1, 2, 3].map((k) => longest * (k / 3) ** 2);
  const level = (y, name) => svg("path", { class: name, d: path([[LEFT, y], [RIGHT, y]]) });
  const sheaf = svg("g", {}, ...Object.values(lines));
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDE} ${LOW + 22}`,
      role: "img",
      "aria-label": "Movement against gain for every update; the words below say what it shows.",
    },
    svg("path", { class: "beyond", d: `${path([...best, [LEFT, TOP]])}Z` }),
    svg("path", { class: "best", d: path(best) }),
    level(HIGH, "best"),
    level(BOTTOM, "axis"),
    level(LOW, "axis"),
    sheaf,
    ...marks,
    ...dots,
    text(LEFT, 14, "Relative gain"),
    text(RIGHT, 14, `${percent(top - 1)}: only the best arm`, "end"),
    text(LEFT + 6, TOP + 18, "no policy lies above"),
    text(LEFT + 6, TOP + 34, "the trust-region path"),
    text(Math.min(across(moves) + 9, RIGHT - 14), up(gained) + 17, "π₊"),
    text(LEFT, BOTTOM + 17, "0"),
    ...thirds.map((m, k) => {
      return text(across(m), BOTTOM + 17, Number(number(m)), k < 2 ? "middle" : "end");
    }),
    text(LEFT, HIGH - 10, "As a share of the path’s gain"),
    text(RIGHT, HIGH - 10, "100%", "end"),
    text(RIGHT, LOW - 5, `${Math.round(100 * bottom)}%`, "end"),
    text(LEFT, LOW + 17, "Movement χ², on a square-root scale"),
  );

  // The policies, arm by arm.
  const width = (RIGHT - LEFT) / Q.length;
  const high = (share) => FLOOR - (FLOOR - CEILING) * share;
  const bars = Q.map((_, i) => {
    const bar = { x: LEFT + width * (i + 0.5), width: 0.36 * width };
    return svg("rect", { class: "after", ...bar });
  });
  const shares = Q.map((_, i) => text(LEFT + width * (i + 0.5), 0, "", "middle"));
  const policies = svg(
    "svg",
    { viewBox: `0 0 ${WIDE} ${FLOOR + 38}`, role: "img" },
    text(LEFT, 14, "Share of each arm (outlined: before);"),
    text(LEFT, 30, "below it, how often the arm succeeds"),
    ...policy.map((p, i) => {
      const bar = { x: LEFT + width * (i + 0.14), width: 0.36 * width };
      return svg("rect", { class: "before", ...bar, y: high(p), height: FLOOR - high(p) });
    }),
    ...bars,
    level(FLOOR, "axis"),
    ...shares,
    ...Q.flatMap((q, i) => {
      const x = LEFT + width * (i + 0.5);
      return [text(x, FLOOR + 16, NAMES[i], "middle"), text(x, FLOOR + 32, percent(q), "middle")];
    }),
  );

  const rule = element("p", { class: "rule" });
  const words = element("p", { class: "verdict", "aria-live": "polite" });
  const draw = () => {
    const result = compute(state);
    const cx = across(result.movement);
    fill(dots[0], { cx, cy: up(result.gain) });
    fill(dots[1], { cx, cy: height(result.share) });
    result.updated.forEach((share, i) => {
      fill(bars[i], { y: high(share), height: FLOOR - high(share) });
      fill(shares[i], { y: Math.min(high(share), high(policy[i])) - 5 });
      shares[i].textContent = percent(share);
    });
    const [from, to] = [policy, result.updated].map((x) => x.map(percent));
    const each = Q.map((_, i) => `${NAMES[i]} from ${from[i]} to ${to[i]}`);
    fill(policies, { "aria-label": `The share of each arm: ${each.join(", ")}.` });
    words.textContent = verdict(result, after);
  };

  // The handles.
  const slot = element("div");
  const handles = Object.entries(UPDATES).map(([update, { label, range, at, show = number }]) => {
    const strength = (t) => at(t, V);
    const say = { ...range, step: 1, show: (t) => show(strength(t)) };
    let now = strength(range.value);
    const node = slider(label, say, (t) => { now = strength(t); state.strength = now; draw(); });
    return [update, () => {
      Object.values(lines).forEach((line) => line.classList.remove("chosen"));
      lines[update].classList.add("chosen");
      sheaf.append(lines[update]); // above the others
      rule.textContent = UPDATES[update].rule;
      slot.replaceChildren(node);
      Object.assign(state, { update, strength: now });
      draw();
    }];
  });
  const choices = handles.map(([update, choose]) => {
    const input = element("input", { type: "radio", name: `${el.id}-update` });
    input.checked = update === state.update;
    input.addEventListener("change", choose);
    const sample = svg("path", { class: `curve chosen ${update}`, d: "M0 6H28" });
    const key = svg("svg", { viewBox: "0 0 28 12", "aria-hidden": "true" }, sample);
    return element("label", { class: "choice" }, input, key, UPDATES[update].name);
  });
  const group = element("fieldset", {}, element("legend", {}, "Update"), ...choices);
  handles[0][1]();
  const left = element("div", {}, picture, words);
  const right = element("div", {}, group, slot, rule, policies);
  el.replaceChildren(element("div", { class: "rivals" }, left, right));
  fill(el, { role: "group", "aria-label": "Five updates of one policy" });
}
