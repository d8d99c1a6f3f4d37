import assert from "node:assert/strict";
import { test } from "node:test";

import { applyEvent, bestEvaluation, cancel, emptyHistory, lastStep, smoothed, summary } from "../../web/loss_history.mjs";

const event = (step, changes = {}) => ({
  node: "5", step, steps: 100, points: [[step, 1 / step]], evaluations: [], stopped: null, done: false, ...changes,
});
const play = (...events) => events.reduce(applyEvent, emptyHistory());

test("events of one run add up", () => {
  const history = play(event(0, { points: [], evaluations: [[0, 1]] }), event(1), event(2, { evaluations: [[2, 0.5]] }));
  assert.deepEqual(history.points, [[1, 1], [2, 0.5]]);
  assert.deepEqual(history.evaluations, [[0, 1], [2, 0.5]]);
  assert.equal(history.step, 2);
});

test("step 0, a lower step, or anything after a cancel begins a new run", () => {
  const old = play(event(1), event(2), event(3));
  assert.deepEqual(applyEvent(old, event(0, { points: [] })).points, []);
  assert.deepEqual(applyEvent(old, event(1)).points, [[1, 1]]);
  assert.deepEqual(applyEvent(cancel(old), event(4)).points, [[4, 0.25]]);
});

test("the last event may repeat its step to say why the run ended", () => {
  const history = play(event(1), event(2), event(2, { points: [], stopped: "No longer falls.", done: true }));
  assert.equal(history.points.length, 2);
  assert.match(summary(history), /No longer falls\./);
});

test("losses that are no numbers are left out", () => {
  const history = play(event(1, { points: [[0, null], [1, NaN], [2, Infinity], [3, 0.3]] }));
  assert.deepEqual(history.points, [[3, 0.3]]);
});

test("a cancel does not touch a finished run", () => {
  const finished = play(event(100, { done: true }));
  assert.equal(cancel(finished), finished);
  assert.match(summary(cancel(play(event(7)))), /cancelled/);
});

test("a very long run keeps its range of steps in bounded memory", () => {
  let history = emptyHistory();
  for (let step = 1; step <= 20000; step += 10) {
    history = applyEvent(history, event(step + 9, { steps: 20000, points: Array.from({ length: 10 }, (_, i) => [step + i, 0.5]) }));
  }
  assert.ok(history.points.length <= 4096);
  assert.equal(history.points.at(-1)[0], 20000);
  assert.ok(history.points.every(([, loss]) => loss === 0.5));
});

test("the best evaluation is the first of the lowest", () => {
  assert.equal(bestEvaluation(emptyHistory()), null);
  const history = play(event(30, { evaluations: [[0, 1], [10, 0.2], [20, 0.2], [30, 0.4]] }));
  assert.deepEqual(bestEvaluation(history), [10, 0.2]);
});

test("the axis shows the whole run until it has ended", () => {
  assert.equal(lastStep(play(event(7))), 100);
  assert.equal(lastStep(play(event(7, { done: true }))), 7);
  assert.equal(lastStep(emptyHistory()), 1);
});

test("smoothing keeps a constant and is not pulled towards zero at its start", () => {
  const flat = Array.from({ length: 50 }, (_, i) => [i, 3]);
  for (const [, loss] of smoothed(flat)) assert.ok(Math.abs(loss - 3) < 1e-12);
  assert.deepEqual(smoothed([]), []);
});
