import assert from "node:assert/strict";
import { test } from "node:test";

import { emptyHistory, lastStep, summary, unknownRun } from "../../../web/panel/history.mjs";

const run = (changes = {}) => ({
  step: 7, steps: 100, batches: [[7, 0.5]], smoothed: [[7, 0.4]], evaluations: [], result: null, stopped: null,
  state: "running", sentence: null, reused: false, ...changes,
});

test("the loss in the summary is the smoothed one, and is called so", () => {
  assert.match(summary(run()), /step 7 of 100 · smoothed loss 0\.4$/);
});

test("the result is told with its loss and the states that it is made of", () => {
  const result = { steps: [4, 7], states: "the mean of some", loss: 0.12345 };
  assert.match(summary(run({ result })), /result 0\.123, the mean of some/);
});

test("each end of a run is told in its own words", () => {
  assert.match(summary(run({ state: "done" })), /done$/);
  assert.match(summary(run({ state: "done", stopped: "No longer falls." })), /No longer falls\.$/);
  assert.match(summary(run({ state: "cancelled" })), /cancelled$/);
  assert.match(summary(run({ state: "failed", sentence: "Lower it." })), /failed: Lower it\.$/);
  assert.match(summary(run({ state: "done", reused: true })), /done · not trained again$/);
});

test("before the first step nothing is made up", () => {
  assert.equal(summary(run({ step: -1, batches: [], smoothed: [] })), "preparing");
  assert.equal(summary(run({ step: -1, batches: [], smoothed: [], state: "failed", sentence: "No." })), "failed: No.");
  assert.match(summary(emptyHistory()), /drawn here/);
});

test("the axis shows the whole run until it has ended", () => {
  assert.equal(lastStep(run()), 100);
  for (const state of ["done", "cancelled", "failed"]) assert.equal(lastStep(run({ state })), 7);
  assert.equal(lastStep(emptyHistory()), 1);
});

test("in place of a run that is not there stands why", () => {
  assert.equal(summary(unknownRun("It has gone.")), "It has gone.");
});
