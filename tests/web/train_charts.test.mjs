import assert from "node:assert/strict";
import { test } from "node:test";

import { createTrainCharts, findNode } from "../../web/train_charts.mjs";

const trainNode = (id) => ({ id, comfyClass: "TI_Train" });
const step = (node, n, changes = {}) => ({
  node, step: n, steps: 9, points: [[n, 1]], evaluations: [], stopped: null, done: false, ...changes,
});

/** A page with open graphs whose nodes remember what they were asked to show. */
function page(graph) {
  const shown = new Map();
  const open = { graph };
  const charts = createTrainCharts(
    () => open.graph,
    (node) => ({ show: (history) => shown.set(node, history) }),
  );
  return { charts, open, shown };
}

test("a node is found by number, by string, and inside subgraphs by its path", () => {
  const inner = trainNode("3");
  const graph = { nodes: [{ id: 7, subgraph: { nodes: [inner] } }, trainNode(3)] };
  assert.equal(findNode(graph, "3"), graph.nodes[1]);
  assert.equal(findNode(graph, 3), graph.nodes[1]);
  assert.equal(findNode(graph, "7:3"), inner);
  assert.equal(findNode(graph, "8:3"), undefined);
  assert.equal(findNode(undefined, "3"), undefined);
});

test("a run is shown on its node while it goes on, and says so when it is cancelled", () => {
  const graph = { id: "a", nodes: [trainNode(5), trainNode(6)] };
  const { charts, shown } = page(graph);
  charts.step(step("5", 0));
  charts.step(step("5", 1));
  assert.equal(shown.get(graph.nodes[0]).step, 1);
  assert.equal(shown.has(graph.nodes[1]), false);
  charts.ended({ node_id: "6" });
  charts.ended({ node_id: "5" });
  assert.equal(shown.get(graph.nodes[0]).cancelled, true);
});

test("another workflow with the same node id does not get the run, and coming back shows it again", () => {
  const first = { id: "a", nodes: [trainNode(5)] };
  const second = { id: "b", nodes: [trainNode(5)] };
  const { charts, open, shown } = page(first);
  charts.step(step("5", 0));
  open.graph = second;
  charts.step(step("5", 1));
  assert.equal(shown.has(second.nodes[0]), false);
  open.graph = { id: "a", nodes: [trainNode(5)] };
  charts.showAll();
  assert.equal(shown.get(open.graph.nodes[0]).step, 1);
});

test("nodes of other classes are left alone", () => {
  const graph = { id: "a", nodes: [{ id: 5, comfyClass: "KSampler" }] };
  const { charts, shown } = page(graph);
  charts.step(step("5", 0));
  assert.equal(shown.size, 0);
});

test("a kept result of a run that the page has not seen is drawn, and does not replace one that it has seen", () => {
  const graph = { id: "a", nodes: [trainNode(5), trainNode(6)] };
  const { charts, shown } = page(graph);
  const kept = step("5", 9, { points: [[1, 3], [9, 1]], done: true });
  charts.finished("5", kept);
  assert.deepEqual(shown.get(graph.nodes[0]).points, kept.points);
  assert.equal(shown.get(graph.nodes[0]).done, true);
  charts.step(step("6", 0));
  charts.step(step("6", 1));
  charts.finished("6", kept);
  assert.equal(shown.get(graph.nodes[1]).step, 1);
});
