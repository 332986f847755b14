// Policies on a grid, one after another: what each plays in each cell, and how often it succeeds.
// `compute` says how dark and how long it is drawn, tested against the package's figures; `render`
// has the anywidget signature.

import { element, fill, percent, slider, svg } from "./controls.js";

// Of the k-th policy: the cells' shades, as in `figures.draw_grid` but on one scale for all
// policies; and the arrows, to the left, down, to the right and up.
export function compute({ policies, values }, k) {
  const top = Math.max(...values.flat());
  return {
    shades: values[k].map((v) => (top > 0 ? (0.5 * v) / top : 0)),
    arrows: policies[k].map((row) => row.map(arrow)),
  };
}

const WIDE = 340;
const PAUSE = 900; // milliseconds, while it plays
const NUMBERED = 8; // rows and columns; in smaller cells no number can be read
const TURNS = [180, 90, 0, -90]; // of an arrow to the right: left, down, right, up

// An arrow beside the number, as long as its action is likely, in a cell of side 1; the rare ones
// are also thinner, so that they look like arrows.
export function arrow(share) {
  if (share < 0.01) return "";
  const [from, half] = [0.25, 0.11 * Math.sqrt(share)];
  return `M${from} ${-half}L${from + 0.22 * share} 0L${from} ${half}Z`;
}

export function render({ model, el }) {
  const names = ["letters", "cells", "policies", "values", "rates", "steps", "best"];
  const state = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const { letters, cells, values, rates, steps, best } = state;
  const [columns, last] = [letters[0].length, steps.length - 1];
  const most = Math.max(columns, letters.length);
  const side = Math.min(80, WIDE / most); // never higher than wide
  const corner = (cell) => [side * (cell % columns), side * Math.floor(cell / columns)];

  // The grid.
  const map = letters.flat().flatMap((letter, cell) => {
    const [x, y] = corner(cell);
    const box = svg("rect", { class: "outline", x, y, width: side, height: side });
    const middle = { class: "letter", x: x + side / 2, y: y + side / 2, "font-size": side * 0.2 };
    return cells.includes(cell) ? [box] : [box, svg("text", middle, letter)];
  });
  const shades = cells.map((cell) => {
    const [x, y] = corner(cell).map((z) => z + 0.04 * side);
    return svg("rect", { class: "shade", x, y, width: 0.92 * side, height: 0.92 * side });
  });
  const centre = (cell) => corner(cell).map((z) => z + side / 2).join(" ");
  const arrows = cells.map((cell) => {
    const place = (turn) => `translate(${centre(cell)}) rotate(${turn}) scale(${side})`;
    return TURNS.map((turn) => svg("path", { class: "arrow", transform: place(turn) }));
  });
  const numbers = cells.map((cell) => {
    const [x, y] = corner(cell).map((z) => z + side / 2);
    return svg("text", { class: "value", x, y, "font-size": Math.min(15, side * 0.2) });
  });
  const picture = svg(
    "svg",
    {
      viewBox: `-1 -1 ${side * columns + 2} ${side * letters.length + 2}`,
      role: "img",
      "aria-label": "The grid: how often each cell succeeds, and where the policy pushes there.",
    },
    ...[shades, map, arrows.flat(), numbers].flat(),
  );

  // The success rate, and the words.
  const done = element("span", { class: "done" });
  const aim = element("span", { class: "aim" });
  const track = element("div", { class: "rate", "aria-hidden": "true" }, done);
  if (best !== null) {
    aim.style.insetInlineStart = percent(best);
    track.append(aim);
  }
  const words = element("p", { class: "verdict", "aria-live": "polite" });
  const say = (k) => {
    const rounds = steps[k] === 1 ? "round" : "rounds";
    const when = steps[k] === 0 ? "Before the first round" : `After ${steps[k]} ${rounds}`;
    const times = k > 0 && rates[0] > 0 ? `, ${(rates[k] / rates[0]).toFixed(1)} times as many` : "";
    const more = times && `${times} as at first`;
    const now = `${when} ${percent(rates[k])} of the episodes succeed${more}.`;
    if (best === null) return now;
    const arrived = Math.abs(rates[k] - best) < 5e-4 * best;
    return `${now} ${arrived ? "No policy does better than" : "The best policy reaches"} ${percent(best)}.`;
  };

  let now = 0;
  const draw = () => {
    const drawn = compute(state, now);
    cells.forEach((_, s) => {
      fill(shades[s], { "fill-opacity": drawn.shades[s] });
      drawn.arrows[s].forEach((d, a) => fill(arrows[s][a], { d }));
      if (most <= NUMBERED) numbers[s].textContent = values[now][s].toFixed(2);
    });
    done.style.inlineSize = percent(rates[now]);
    words.textContent = say(now);
    fill(back, { "aria-disabled": now === 0 }); // truly disabled, it would lose the focus
    fill(next, { "aria-disabled": now === last });
  };

  // The handles.
  const button = (name, act) => {
    const node = element("button", { type: "button" }, name);
    node.addEventListener("click", act);
    return node;
  };
  let clock = null;
  const stop = () => {
    clearInterval(clock);
    clock = null;
    play.textContent = "Play";
    fill(words, { "aria-live": "polite" });
  };
  const go = (k) => {
    now = Math.min(Math.max(k, 0), last);
    handle.set(now);
    if (now === last) stop();
    draw();
  };
  const tick = () => (el.isConnected ? go(now + 1) : stop());
  const start = () => {
    fill(words, { "aria-live": "off" }); // the end is said, not the way
    play.textContent = "Pause";
    clock = setInterval(tick, PAUSE);
    go(now === last ? 0 : now + 1);
  };
  const range = { value: 0, max: last, step: 1, show: (k) => `${steps[k]}` };
  const handle = slider("rounds of imitation", range, (k) => { stop(); go(k); });
  const back = button("Previous", () => { stop(); go(now - 1); });
  const next = button("Next", () => { stop(); go(now + 1); });
  const play = button("Play", () => (clock === null ? start() : stop()));
  const buttons = element("div", { class: "buttons" }, back, next, play);
  const hint = element(
    "p",
    {},
    "Shade and number: how often an episode succeeds from the cell. Arrows: the longer, the more " +
      "often the policy pushes that way.",
  );
  const right = element("div", {}, handle, buttons, track, words, hint);
  el.replaceChildren(
    element("div", { class: "iterates" }, element("div", { class: "picture" }, picture), right),
  );
  fill(el, { role: "group", "aria-label": "Imitation, round after round" });
  draw();
}
