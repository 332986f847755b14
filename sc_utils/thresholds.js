// Arms with Beta returns, imitated where a return reaches a threshold: what the threshold gains.
// `compute` is the mathematics, tested against the package; `render` has the anywidget signature.

import { clean, element, fill, percent, slider, svg } from "./controls.js";

// Lanczos, with g = 7 and nine terms.
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
  -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
  1.5056327351493116e-7,
];

function logGamma(x) {
  const terms = LANCZOS.reduce((sum, c, i) => sum + c / (x + i)); // for the gamma of x + 1
  const t = x + 7.5;
  return Math.log(2 * Math.PI) / 2 + (x + 0.5) * Math.log(t) - t + Math.log(terms) - Math.log(x);
}

// The probability that a return ~ Beta(a, b) reaches x: Lentz' continued fraction, on the side of
// the mean where it converges fast.
export function above(x, a, b) {
  const logBeta = logGamma(a) + logGamma(b) - logGamma(a + b);
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logBeta);
  if (x < (a + 1) / (a + b + 2)) return 1 - (front * fraction(x, a, b)) / a;
  return (front * fraction(1 - x, b, a)) / b;
}

function fraction(x, a, b) {
  const tiny = (z) => (Math.abs(z) < 1e-300 ? 1e-300 : z);
  let c = 1;
  let d = 1 / tiny(1 - ((a + b) * x) / (a + 1));
  let product = d;
  for (let m = 1; m < 1000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    let last = 1;
    for (const term of [even, odd]) {
      d = 1 / tiny(1 + term * d);
      c = tiny(1 + term / c);
      last = c * d;
      product *= last;
    }
    if (Math.abs(last - 1) < 1e-15) break;
  }
  return product;
}

const EQUAL = 1e-14; // what differs by less, relatively, differs by rounding

export function compute({ a, b, policy, threshold }) {
  const Q = a.map((x, i) => x / (x + b[i]));
  const proxy = a.map((x, i) => above(threshold, x, b[i]));
  const mean = (f) => policy.reduce((sum, p, i) => sum + (p > 0 ? p * f(i) : 0), 0);
  const [V, passed] = [Q, proxy].map((q) => mean((i) => q[i]));
  const covariance = (q, r, v, w) => mean((i) => (q[i] - v) * (r[i] - w));
  const square = (q, v) => {
    const variance = covariance(q, q, v, v);
    return variance > (EQUAL * v) ** 2 ? variance : 0;
  };
  const [own, theirs] = [square(Q, V), square(proxy, passed)];
  const both = own > 0 && theirs > 0 ? covariance(proxy, Q, passed, V) : 0;
  const imitate = (q, v) => policy.map((p, i) => (v > 0 ? (p * q[i]) / v : p));
  return {
    Q,
    V,
    proxy,
    passed,
    after: imitate(proxy, passed),
    faithful: imitate(Q, V),
    influence: own / V ** 2,
    proxyInfluence: theirs > 0 ? theirs / passed ** 2 : 0,
    alignment: both === 0 ? 0 : both / Math.sqrt(own * theirs),
    faithfulGain: own / V,
    gain: both === 0 ? 0 : both / passed,
  };
}

// The gain at many thresholds, the best of them, and those where it changes sign.
export function sweep(state) {
  const at = (threshold) => compute({ ...state, threshold });
  const gain = (threshold) => at(threshold).gain;
  const thresholds = Array.from({ length: 199 }, (_, k) => (k + 1) / 200);
  thresholds.unshift(0.001);
  thresholds.push(0.999);
  const results = thresholds.map(at);
  const gains = results.map((result) => result.gain);
  const top = gains.indexOf(Math.max(...gains));
  let [low, high] = [thresholds[Math.max(top - 1, 0)], thresholds[Math.min(top + 1, 200)]];
  while (high - low > 1e-6) { // the better third is kept
    const [left, right] = [(2 * low + high) / 3, (low + 2 * high) / 3];
    if (gain(left) < gain(right)) low = left;
    else high = right;
  }
  // What differs from no gain by rounding has no sign.
  const smallest = 1e-9 * Math.max(...gains.map(Math.abs));
  const signed = thresholds.map((_, k) => k).filter((k) => Math.abs(gains[k]) > smallest);
  const zeros = [];
  signed.slice(1).forEach((k, i) => {
    const before = signed[i];
    if (gains[before] * gains[k] > 0) return;
    let [from, to] = [thresholds[before], thresholds[k]];
    while (to - from > 1e-6) {
      const middle = (from + to) / 2;
      if (gain(middle) * gains[before] > 0) from = middle;
      else to = middle;
    }
    zeros.push((from + to) / 2);
  });
  const most = Math.max(...results.map((result) => Math.max(...result.after)));
  const best = [low, high].reduce((x, y) => (gain(y) > gain(x) ? y : x), thresholds[top]);
  return { thresholds, gains, best, zeros, most };
}

const WIDE = 340;
const NO_GAIN = 1e-4; // of the faithful gain: shown as 0, as where the gain changes its sign
const [LEFT, RIGHT, TOP, BOTTOM] = [8, 332, 26, 170]; // of the curve
const [CEILING, FLOOR] = [24, 104]; // of the bars
const across = (x) => LEFT + (RIGHT - LEFT) * x;

const three = (x) => {
  const z = clean(x);
  const text = z !== 0 && Math.abs(z) < 1e-6 ? z.toExponential(1) : z.toPrecision(3);
  return z === 0 ? "0" : text.replace(/^-/, "−");
};
const path = (points) => `M${points.map((z) => z.map((x) => x.toFixed(2)).join(" ")).join("L")}`;

// The curve in pieces of one sign.
function pieces({ thresholds, gains, zeros }) {
  const points = [...thresholds.map((x, k) => [x, gains[k]]), ...zeros.map((x) => [x, 0])];
  points.sort((p, q) => p[0] - q[0]);
  const parts = { up: [[]], down: [[]] };
  for (const point of points) {
    for (const [kind, sign] of [["up", 1], ["down", -1]]) {
      if (sign * point[1] >= 0) parts[kind].at(-1).push(point);
      else if (parts[kind].at(-1).length > 0) parts[kind].push([]);
    }
  }
  return parts;
}

function verdict(result, threshold, share) {
  const { influence, proxyInfluence, alignment, passed, gain, faithfulGain } = result;
  if (influence === 0) return "All arms are equally good: no rule can gain.";
  if (passed === 0) return "No return is ever so high: there is nothing to imitate.";
  const at = `At threshold ${threshold.toFixed(3)} the gain is ${three(gain)}`;
  const best = `The best arm's share goes ${share}. `;
  if (gain === 0) return `${at}: the alignment is 0. ${best}The threshold gains nothing.`;
  const amplified = Math.sqrt(proxyInfluence / influence);
  const times = gain / faithfulGain;
  const how =
    `${at}, ${three(times)} times the faithful one: ` +
    `amplification ${three(amplified)} × alignment ${three(alignment)}. `;
  if (gain < 0) return `${how}${best}High returns come from worse arms: imitating them harms.`;
  if (gain > faithfulGain) return `${how}${best}The threshold beats faithful rewards.`;
  return `${how}${best}Faithful rewards gain more.`;
}

export function render({ model, el }) {
  const state = Object.fromEntries(["a", "b", "policy", "threshold"].map((k) => [k, model.get(k)]));
  const curve = sweep(state);
  const start = compute(state);
  const { Q, V, faithful, faithfulGain } = start;
  const top = Math.max(...Q);
  const best = Q.map((q) => q > top - 1e-12);
  const order = Q.map((_, i) => i).sort((i, j) => (Math.abs(Q[i] - Q[j]) > 1e-12 ? Q[i] - Q[j] : i - j));

  // The gain at each threshold.
  const ceiling = Math.max(...curve.gains, faithfulGain, 1e-12);
  const floor = Math.min(...curve.gains, -0.12 * ceiling);
  const up = (gain) => TOP + ((BOTTOM - TOP) * (ceiling - gain)) / (ceiling - floor);
  const draws = ([x, gain]) => [across(x), up(gain)];
  const parts = pieces(curve);
  const lines = Object.entries(parts).map(([kind, runs]) => {
    const d = runs.filter((run) => run.length > 1).map((run) => path(run.map(draws)));
    return svg("path", { class: `curve ${kind}`, d: d.join("") });
  });
  const level = (gain) => path([0, 1].map((x) => [across(x), up(gain)]));
  const text = (x, y, words, anchor = "start") => svg("text", { x, y, "text-anchor": anchor }, words);
  const here = svg("path", { class: "here" });
  const dot = svg("circle", { class: "dot", r: 5 });
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDE} ${BOTTOM + 24}`,
      role: "img",
      "aria-label": "The gain at each threshold; the words below say what it shows.",
    },
    svg("path", { class: "axis", d: level(0) }),
    svg("path", { class: "rival", d: level(faithfulGain) }),
    here,
    ...lines,
    dot,
    text(LEFT, 14, "Gain at each threshold"),
    text(LEFT, up(faithfulGain) - 5, `faithful ${three(faithfulGain)}`),
    text(LEFT, up(0) + 14, "no gain"),
    ...[0, 0.5, 1].map((x, i) => text(across(x), BOTTOM + 18, x, ["start", "middle", "end"][i])),
  );

  // The policies, arm by arm.
  const most = Math.max(curve.most, ...faithful, ...start.after, ...state.policy);
  const high = (p) => FLOOR - ((FLOOR - CEILING) * p) / most;
  const width = (RIGHT - LEFT) / order.length;
  const gap = Math.min(0.25 * width, 3);
  const steps = (policy) =>
    order
      .map((i, k) => path([0, 1].map((end) => [LEFT + width * (k + end), high(policy[i])])))
      .join("L")
      .replaceAll("LM", "L");
  const bars = order.map((i, k) =>
    svg("rect", {
      class: best[i] ? "best" : "arm",
      x: LEFT + width * k + gap / 2,
      width: best[i] ? Math.max(width - gap, 4) : width - gap,
    }),
  );
  const policies = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDE} ${FLOOR + 24}`,
      role: "img",
      "aria-label": "How often each arm is played; the words below say what it shows.",
    },
    ...bars,
    svg("path", { class: "before", d: steps(state.policy) }),
    svg("path", { class: "rival", d: steps(faithful) }),
    text(LEFT, 14, "Share of each arm (grey before, dashed faithful)"),
    text(LEFT, FLOOR + 18, "worst mean"),
    text(RIGHT, FLOOR + 18, "best", "end"),
  );

  // The numbers.
  const cells = { influence: [], alignment: [], gain: [], "best arm": [] };
  const rows = Object.entries(cells).map(([name, shown]) => {
    shown.push(element("td"), element("td"));
    return element("tr", {}, element("th", { scope: "row" }, name), ...shown);
  });
  const heads = ["", "faithful", "threshold"].map((name) =>
    name ? element("th", { scope: "col" }, name) : element("td"),
  );
  const table = element("table", {}, element("tr", {}, ...heads), ...rows);
  const words = element("p", { class: "verdict", "aria-live": "polite" });

  const draw = () => {
    const exact = compute(state);
    const none = Math.abs(exact.gain) < NO_GAIN * faithfulGain;
    const result = none ? { ...exact, gain: 0, alignment: 0 } : exact;
    const [x, y] = [across(state.threshold), up(result.gain)];
    fill(dot, { cx: x, cy: y, class: result.gain < 0 ? "dot down" : "dot up" });
    fill(here, { d: path([[x, TOP], [x, BOTTOM]]) });
    order.forEach((i, k) => {
      const y = high(result.after[i]);
      fill(bars[k], { y, height: FLOOR - y });
    });
    const share = (policy) => percent(policy.reduce((sum, p, i) => sum + (best[i] ? p : 0), 0));
    const shown = [
      [three(result.influence), three(result.proxyInfluence)],
      ["1", three(result.alignment)],
      [three(faithfulGain), three(result.gain)],
      [share(faithful), share(result.after)],
    ];
    Object.values(cells).forEach((pair, i) => {
      pair.forEach((cell, j) => { cell.textContent = shown[i][j]; });
    });
    const change = `from ${share(state.policy)} to ${share(result.after)}`;
    words.textContent = verdict(result, state.threshold, change);
  };

  // The handles.
  const range = { min: 0.001, max: 0.999, step: 0.001, show: (x) => x.toFixed(3) };
  const move = (threshold) => { state.threshold = threshold; draw(); };
  const handle = slider("threshold", { ...range, value: state.threshold }, move);
  const jump = (name, threshold) => {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      handle.set(threshold);
      move(threshold);
    });
    return button;
  };
  const buttons = [jump("the best threshold", curve.best)];
  if (curve.zeros.length > 0) buttons.push(jump("where the gain is 0", curve.zeros.at(-1)));
  const controls = element("div", { class: "handles" }, handle, ...buttons);
  const left = element("div", {}, picture, policies);
  const right = element("div", {}, controls, table, words);
  el.replaceChildren(element("div", { class: "thresholds" }, left, right));
  fill(el, { role: "group", "aria-label": "A threshold on the return" });
  draw();
}
