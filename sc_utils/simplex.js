// Three actions, a behaviour policy, and three trust regions of one budget around it.
// `compute` is the mathematics, tested against the package; `render` has the anywidget signature.

import { NAMES, clean, element, fill, number, percent, slider, svg } from "./controls.js";

// Each divergence as a sum over the actions played, of the policy x and the behaviour p; and the
// policies that gain most within its balls: p times the tilt of how far an action is from the best.
const BALLS = {
  chi: { term: (x, p) => (x - p) ** 2 / p, tilt: (z) => Math.max(0, 1 - z) },
  forward: { term: (x, p) => (x > 0 ? x * Math.log(x / p) : 0), tilt: (z) => Math.exp(-z) },
  reverse: { term: (x, p) => p * Math.log(p / x), tilt: (z) => 1 / (1 + z) },
};
const RAYS = 100; // from the behaviour to each side of the triangle
const TIE = 1e-13; // actions that differ by less, relatively, are equally good

export function compute({ policy, Q, budget }) {
  const played = [0, 1, 2].filter((a) => policy[a] > 0);
  const mean = (f) => played.reduce((sum, a) => sum + policy[a] * f(a), 0);
  const V = mean((a) => Q[a]);
  const best = Math.max(...played.map((a) => Q[a]));
  const loss = Q.map((q) => (best - q > TIE * best ? best - q : 0));
  const worst = Math.max(...played.map((a) => loss[a]));
  const rays = played.length > 2 ? RAYS : 1; // a side, or its two ends
  const ends = played.flatMap((a, i) => {
    const [from, to] = [a, played[(i + 1) % played.length]].map(corner);
    return Array.from({ length: rays }, (_, k) => between(from, to, k / rays));
  });
  const ball = ({ term, tilt }) => {
    const distance = (x) => played.reduce((sum, a) => sum + term(x[a], policy[a]), 0);
    const furthest = (on, low, high) => on(last((t) => distance(on(t)), budget, low, high));
    const tilted = (t) => {
      const weight = (a) => tilt(Math.exp(t) * (loss[a] / worst));
      const total = mean(weight);
      return policy.map((p, a) => (p > 0 ? (p * weight(a)) / total : 0));
    };
    const optimum = worst > 0 ? furthest(tilted, -40, 700) : policy;
    const gain = optimum.reduce((sum, x, a) => sum + (x - policy[a]) * Q[a], 0) / (V || 1);
    const border = ends.map((end) => furthest((t) => between(policy, end, t), 0, 1));
    return { optimum, gain: Math.max(gain, 0), border };
  };
  return {
    V,
    after: policy.map((p, a) => (V > 0 ? (p * Q[a]) / V : p)),
    influence: worst > 0 ? mean((a) => (Q[a] / V - 1) ** 2) : 0,
    balls: { chi: ball(BALLS.chi), forward: ball(BALLS.forward), reverse: ball(BALLS.reverse) },
  };
}

const corner = (a) => [0, 1, 2].map((b) => Number(a === b));
const between = (from, to, t) => from.map((x, a) => (1 - t) * x + t * to[a]);

// The largest t from `low` to `high` at which `f`, which grows, is still within the limit.
function last(f, limit, low, high) {
  if (f(high) <= limit) return high;
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (f(middle) <= limit) low = middle;
    else high = middle;
  }
  return low;
}

const SIDE = 300;
const HEIGHT = SIDE * Math.sqrt(0.75);
const [LEFT, BOTTOM] = [20, 290];
const WIDE = SIDE + 2 * LEFT;
const place = ([, b, c]) => [LEFT + SIDE * (b + c / 2), BOTTOM - HEIGHT * c];
const spot = (policy) => place(policy).map((z) => z.toFixed(2)).join(" ");
const path = (policies) => `M${policies.map(spot).join("L")}`;

// The policies that are marked: how, what stands beside the mark, and their names in the words.
const MARKS = {
  before: { mark: "M-7 0a7 7 0 1 0 14 0a7 7 0 1 0-14 0z", label: "π₀" },
  after: { mark: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", label: "π₊", name: "π₊, imitation" },
  chi: { mark: "M-8-8h16v16h-16z", label: "χ²", name: "best in χ²(π‖π₀)" },
  forward: { mark: "M0-8L7 5h-14z", label: "KL(π‖π₀)", name: "best in KL(π‖π₀)" },
  reverse: { mark: "M0-8L7 0L0 8L-7 0z", label: "KL(π₀‖π)", name: "best in KL(π₀‖π)" },
};
const KINDS = Object.keys(MARKS);
const TRIANGLE = "The triangle of policies; the words below say what it shows.";
const HINT =
  "π₀ plays now, and π₊ imitates its successes. Each border encloses the policies within the " +
  "budget; the mark on it succeeds most. Gains are relative to π₀, and equal along a grey line. " +
  "Drag π₀, or move the sliders.";

// Where the gain has one value, for seven values at equal steps: the triangle's sides, cut twice.
function levels(Q) {
  const low = Math.min(...Q);
  const high = Math.max(...Q);
  if (high === low) return "";
  const lines = [1, 2, 3, 4, 5, 6, 7].map((k) => {
    const level = low + ((high - low) * k) / 8;
    const cut = [[0, 1], [1, 2], [2, 0]].filter(([a, b]) => (Q[a] < level) !== (Q[b] < level));
    const share = ([a, b]) => (level - Q[a]) / (Q[b] - Q[a]);
    return path(cut.map(([a, b]) => between(corner(a), corner(b), share([a, b]))));
  });
  return lines.join("");
}

// Where the labels go: each in turn to where it meets least, close to its mark if it can.
const WAYS = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]];
const meet = (p, q) =>
  Math.max(0, (p.w + q.w) / 2 - Math.abs(p.x - q.x)) * Math.max(0, 16 - Math.abs(p.y - q.y));

function settle(spots) {
  const marks = spots.map(([x, y]) => ({ x, y, w: 16 }));
  const taken = [{ x: WIDE / 2, y: BOTTOM - HEIGHT - 14, w: 118 }];
  taken.push({ x: 59, y: BOTTOM + 18, w: 118 }, { x: WIDE - 59, y: BOTTOM + 18, w: 118 });
  for (const [i, [x, y]] of spots.entries()) {
    const w = 4 + 7 * MARKS[KINDS[i]].label.length;
    const cost = (at) =>
      taken.reduce((sum, other) => sum + 3 * meet(at, other), 30 * at.far) +
      marks.reduce((sum, mark) => sum + meet(at, mark), 0) +
      99 * Math.max(0, w / 2 - at.x, at.x + w / 2 - WIDE, at.y - BOTTOM - 22);
    const options = [1, 2, 3].flatMap((far) => {
      const [right, down] = [w / 2 + 13 * far - 3, 16 * far];
      return WAYS.map(([dx, dy]) => ({ x: x + dx * right, y: y + dy * down, w, far }));
    });
    taken.push(options.reduce((best, at) => (cost(at) < cost(best) ? at : best)));
  }
  return taken.slice(3);
}

const small = (x) => x > 1e-9 && x < 1e-3;
const relative = (x) => (small(x) ? `${clean(100 * x).toPrecision(2)}%` : percent(x));

function verdict({ V, influence, after, balls }, { policy, budget }) {
  if (V === 0) return "Nothing that is played succeeds, so there is nothing to imitate: π₊ is π₀.";
  if (influence === 0) return "All that is played succeeds equally often: π₊ is π₀.";
  const equal = balls.chi.optimum.every((x, a) => Math.abs(x - after[a]) < 1e-6);
  const moved = budget < influence ? "is on the way to π₊" : "is beyond π₊";
  const where = equal ? "is π₊" : budget > 0 ? moved : "is π₀";
  const own = Math.abs(budget - influence) < 1e-6 * influence;
  const [spent, moves] = [budget, influence].map((x) => clean(x).toPrecision(3));
  const allowed = own ? ", which is the budget" : `; the budget is ${spent}`;
  const idle = NAMES[policy.indexOf(0)];
  return (
    `Imitation moves ${moves} in χ²${allowed}: the best in χ² ${where}.` +
    (idle ? ` ${idle} is never played: nothing is known of it, so the balls do without.` : "")
  );
}

export function render({ model, el }) {
  const [policy, Q] = [[...model.get("policy")], [...model.get("Q")]];
  const state = { policy, Q, budget: model.get("budget") };
  const mark = (kind) => svg("path", { class: `mark ${kind}`, d: MARKS[kind].mark });
  const line = (kind) => svg("path", { class: `border ${kind}` });

  // The picture.
  const contours = svg("path", { class: "level" });
  const borders = Object.keys(BALLS).map(line);
  const [marks, leaders] = [KINDS.map(mark), KINDS.map(() => svg("path", { class: "leader" }))];
  const labels = KINDS.map((kind) => svg("text", { class: "label" }, MARKS[kind].label));
  const corners = [
    svg("text", { x: 0, y: BOTTOM + 22 }),
    svg("text", { x: WIDE, y: BOTTOM + 22, "text-anchor": "end" }),
    svg("text", { x: WIDE / 2, y: BOTTOM - HEIGHT - 10, "text-anchor": "middle" }),
  ];
  const handle = svg("circle", { class: "handle", r: 22 });
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDE} ${BOTTOM + 30}`, role: "img", "aria-label": TRIANGLE },
    contours,
    svg("path", { class: "edge", d: `${path([0, 1, 2].map(corner))}Z` }),
    ...[borders, leaders, [...marks].reverse(), corners, labels, handle].flat(),
  );

  // The words.
  const rows = KINDS.slice(1).map((kind) => {
    const sample = kind in BALLS ? [fill(line(kind), { d: "M-22 0H22" })] : [];
    const box = { viewBox: "-22 -9 44 18", "aria-hidden": "true" };
    const key = svg("svg", box, ...sample, mark(kind));
    const name = element("span", { class: "name" }, key, MARKS[kind].name);
    const [gain, ...shares] = [0, 1, 2, 3].map(() => element("span"));
    const all = element("span", { class: "shares" }, ...shares);
    const whole = { class: "found", "aria-atomic": "true" }; // announced from its name on
    return { gain, shares, node: element("p", whole, name, gain, all) };
  });
  const words = element("p", { class: "verdict" });

  const draw = () => {
    const result = compute(state);
    const balls = Object.values(result.balls);
    const policies = [state.policy, result.after, ...balls.map((ball) => ball.optimum)];
    const spots = policies.map(place);
    balls.forEach(({ border }, i) => fill(borders[i], { d: `${path(border)}Z` }));
    settle(spots).forEach(({ x, y, far }, i) => {
      const [left, top] = spots[i];
      fill(marks[i], { transform: `translate(${left} ${top})` });
      fill(labels[i], { x, y: y + 4 });
      fill(leaders[i], { d: far > 1 ? `M${x} ${y}L${left} ${top}` : "" });
    });
    const [cx, cy] = spots[0];
    fill(handle, { cx, cy });
    fill(contours, { d: levels(state.Q) });
    corners.forEach((node, a) => {
      node.textContent = `${NAMES[a]} succeeds ${percent(state.Q[a])}`;
    });
    const gains = [result.influence, ...balls.map((ball) => ball.gain)];
    rows.forEach(({ gain, shares }, i) => {
      gain.textContent = ` gains ${relative(gains[i])}`;
      policies[i + 1].forEach((x, a) => { shares[a].textContent = ` ${NAMES[a]} ${percent(x)}`; });
    });
    words.textContent = verdict(result, state);
  };

  // The handles.
  const chance = (value) => ({ value, max: 1, step: 0.005, show: (x) => x.toFixed(3) });
  const played = policy.map((p, a) => slider("played", chance(p), (x) => play(a, x)));
  const move = (weights) => {
    const kept = weights.map((x) => (x < 0.0005 ? 0 : x)); // what the sliders call 0 is 0
    const total = kept.reduce((sum, x) => sum + x, 0);
    state.policy = kept.map((x) => x / total);
    played.forEach((node, a) => node.set(state.policy[a]));
    draw();
  };
  const play = (a, x) => { // the others keep their proportion
    const rest = state.policy.reduce((sum, p, b) => sum + (b === a ? 0 : p), 0);
    const share = (p) => (rest > 0 ? p / rest : 1 / 2);
    move(state.policy.map((p, b) => (b === a ? x : (1 - x) * share(p))));
  };
  const cube = { max: 2, step: 0.01, value: Math.cbrt(state.budget), show: (x) => number(x ** 3) };
  const spend = (budget) => { state.budget = budget; draw(); };
  const budget = slider("budget", cube, (x) => spend(x ** 3));
  const button = element("button", { type: "button" }, "the budget that imitation uses");
  button.addEventListener("click", () => {
    spend(compute(state).influence);
    budget.set(Math.cbrt(state.budget));
  });
  handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const at = new DOMPoint(event.clientX, event.clientY);
    const { x, y } = at.matrixTransform(picture.getScreenCTM().inverse());
    const c = (BOTTOM - y) / HEIGHT;
    const b = (x - LEFT) / SIDE - c / 2;
    move([1 - b - c, b, c]);
  });
  const group = (name, ...nodes) => element("fieldset", {}, element("legend", {}, name), ...nodes);
  const controls = element(
    "div",
    {},
    group("Trust regions", budget, button),
    ...played.map((node, a) => {
      const succeeds = slider("succeeds", chance(Q[a]), (x) => { state.Q[a] = x; draw(); });
      return group(`Action ${NAMES[a]}`, node, succeeds);
    }),
  );
  const live = element("div", { class: "words", "aria-live": "polite" });
  live.append(...rows.map(({ node }) => node), words);
  const hint = element("p", {}, HINT);
  const left = element("div", { class: "picture" }, picture, hint);
  el.replaceChildren(element("div", { class: "simplex" }, left, controls, live));
  fill(el, { role: "group", "aria-label": "Three trust regions of one budget" });
  draw();
}
