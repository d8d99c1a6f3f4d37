import assert from "node:assert/strict";
import { test } from "node:test";

import { chartScale, drawChart, linearTicks, logTicks } from "../../../web/panel/chart.mjs";
import { emptyHistory } from "../../../web/panel/history.mjs";

const SIZE = { width: 320, height: 180 };
const THEME = { muted: "muted", grid: "grid", raw: "raw", line: "line", dot: "dot", result: "result" };

/** A running history whose smoothed line is the batches themselves. */
function historyOf(batches, evaluations = [], result = null) {
  return { ...emptyHistory(), state: "running", step: batches.at(-1)?.[0] ?? 0, steps: 100, batches, smoothed: batches, evaluations, result };
}

/** A 2D context that remembers every call with the colours that were set when it was made. */
function recorder() {
  const calls = [];
  const state = {};
  return new Proxy(state, {
    get: (_, name) => {
      if (name === "calls") return calls;
      if (name === "measureText") return (text) => ({ width: 5 * text.length });
      return name in state ? state[name] : (...args) => calls.push({ name, args, fill: state.fillStyle, stroke: state.strokeStyle });
    },
    set: (_, name, value) => ((state[name] = value), true),
  });
}

test("ticks are round, ordered and inside", () => {
  assert.deepEqual(linearTicks(0, 100, 4), [0, 50, 100]);
  assert.deepEqual(linearTicks(0.13, 0.31, 4), [0.15, 0.2, 0.25, 0.3]);
  assert.deepEqual(linearTicks(0, 1, 2), [0, 0.5, 1]);
  assert.deepEqual(logTicks(0.01, 1, 4), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]);
  assert.deepEqual(logTicks(0.13, 0.19, 3), [0.14, 0.16, 0.18]);
  assert.deepEqual(logTicks(1e-6, 1, 3), [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]);
});

for (const logarithmic of [false, true]) {
  test(`everything lies inside the chart, ${logarithmic ? "logarithmic" : "linear"}`, () => {
    const points = Array.from({ length: 60 }, (_, i) => [i + 1, 0.2 + 1 / (i + 1)]);
    const scale = chartScale(historyOf(points, [[0, 1.1], [60, 0.21]]), { ...SIZE, logarithmic });
    for (const [step, loss] of [[0, 1.1], [60, 0.21]]) {
      assert.ok(scale.x(step) >= scale.left && scale.x(step) <= scale.right);
      assert.ok(scale.y(loss) >= scale.top && scale.y(loss) <= scale.bottom, `${loss}`);
    }
    assert.ok(scale.y(0.3) > scale.y(0.9), "a lower loss is further down");
    assert.ok(scale.yTicks.length >= 2 && scale.xTicks.length >= 2);
  });
}

test("one peak does not flatten the rest", () => {
  const points = Array.from({ length: 100 }, (_, i) => [i + 1, i === 50 ? 1000 : 0.2 + 0.001 * i]);
  const history = { ...historyOf(points), smoothed: points.map(([step]) => [step, 10]) };
  const scale = chartScale(history, { ...SIZE, logarithmic: false });
  assert.ok(scale.y(1000) < scale.top, "the peak may leave the chart");
  assert.ok(scale.yTicks.at(-1) <= 500);
});

test("no data, one point, equal and zero losses have finite scales", () => {
  for (const points of [[], [[1, 0.5]], [[1, 0.5], [2, 0.5]], [[1, 0], [2, 0]], [[1, -1], [2, 1]]]) {
    for (const logarithmic of [false, true]) {
      for (const size of [SIZE, { width: 1, height: 1 }]) {
        const scale = chartScale(historyOf(points), { ...size, logarithmic });
        const numbers = [scale.x(1), scale.y(0.5), ...scale.xTicks, ...scale.yTicks];
        assert.ok(numbers.every(Number.isFinite), JSON.stringify({ points, logarithmic, numbers }));
      }
    }
  }
});

function drawn(history) {
  const ctx = recorder();
  drawChart(ctx, history, { ...SIZE, logarithmic: false, theme: THEME });
  return ctx.calls;
}

test("before the first point nothing is drawn, no axis either", () => {
  for (const history of [emptyHistory(), historyOf([])]) {
    assert.deepEqual(drawn(history).filter((c) => ["fillText", "stroke", "arc"].includes(c.name)), []);
  }
});

test("one point is drawn as a dot, several as a line", () => {
  const one = drawn(historyOf([[1, 0.5]])).filter((c) => c.name === "arc");
  assert.equal(one.length, 1);
  const several = drawn(historyOf([[1, 0.5], [2, 0.4]]));
  assert.equal(several.filter((c) => c.name === "arc").length, 0);
  assert.ok(several.some((c) => c.name === "stroke" && c.stroke === "line"));
});

test("a run is drawn as its line, the evaluations as dots, the result as a line over its steps", () => {
  const history = historyOf([[1, 0.9], [2, 0.5], [3, 0.4]], [[0, 1], [2, 0.3], [3, 0.6]], { steps: [2, 3], loss: 0.3 });
  const calls = drawn(history);
  assert.ok(calls.some((c) => c.name === "stroke" && c.stroke === "line"));
  const dots = calls.filter((c) => c.name === "arc");
  assert.equal(dots.length, 4);
  const scale = chartScale(history, { ...SIZE, logarithmic: false });
  assert.deepEqual(dots.at(-1).args.slice(0, 2), [scale.x(3), scale.y(0.3)]);
});

test("dots at the edge are not clipped", () => {
  const names = drawn(historyOf([[1, 0.9], [2, 0.5]], [[0, 1]])).map((c) => c.name);
  assert.ok(names.indexOf("arc") > names.indexOf("restore") && names.indexOf("restore") > names.indexOf("clip"));
});

test("the legend tells the loss of the batches from the smoothed one", () => {
  const texts = drawn(historyOf([[1, 0.9], [2, 0.5]])).filter((c) => c.name === "fillText").map((c) => c.args[0]);
  assert.ok(texts.includes("loss of batches") && texts.includes("smoothed"));
});
