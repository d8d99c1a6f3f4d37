import assert from "node:assert/strict";
import { test } from "node:test";

import { createRuns, findNode, nodesOfClass } from "../../../web/panel/runs.mjs";

const trainNode = (id) => ({ id, comfyClass: "TI_Train" });
const run = (node, step, changes = {}) => ({
  node, step, steps: 9, workflow: "a", prompt_id: "p", time: step, state: "running", reused: false, ...changes,
});

/** A page with open graphs whose nodes remember what they were asked to show. */
function page(graph) {
  const shown = new Map();
  const open = { graph };
  const runs = createRuns(
    () => open.graph,
    (node) => ({ show: (history) => shown.set(node, history) }),
  );
  return { runs, open, shown };
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

test("a run is shown on its node and on no other", () => {
  const graph = { id: "a", nodes: [trainNode(5), trainNode(6)] };
  const { runs, shown } = page(graph);
  runs.tell(run("5", 1));
  assert.equal(shown.get(graph.nodes[0]).step, 1);
  assert.equal(shown.has(graph.nodes[1]), false);
});

test("another workflow with the same node id does not get the run, and coming back shows it again", () => {
  const first = { id: "a", nodes: [trainNode(5)] };
  const second = { id: "b", nodes: [trainNode(5)] };
  const { runs, open, shown } = page(first);
  open.graph = second;
  runs.tell(run("5", 1));
  runs.showAll(async () => null);
  assert.equal(shown.size, 0);
  open.graph = { id: "a", nodes: [trainNode(5)] };
  runs.showAll(async () => null);
  assert.equal(shown.get(open.graph.nodes[0]).step, 1);
});

test("a run of no workflow is shown nowhere", () => {
  const { runs, shown } = page({ nodes: [trainNode(5)] });
  runs.tell(run("5", 1, { workflow: null }));
  runs.tell(run("5", 1, { workflow: undefined }));
  assert.equal(shown.size, 0);
});

test("a new run replaces an old one, a late message about an old one nothing", () => {
  const graph = { id: "a", nodes: [trainNode(5)] };
  const { runs, shown } = page(graph);
  runs.tell(run("5", 9, { state: "done", time: 10 }));
  runs.tell(run("5", -1, { prompt_id: "q", time: 11 }));
  runs.tell(run("5", 9, { state: "done", time: 10 }));
  assert.equal(shown.get(graph.nodes[0]).prompt_id, "q");
});

test("nodes of other classes are left alone", () => {
  const { runs, shown } = page({ id: "a", nodes: [{ id: 5, comfyClass: "KSampler" }] });
  runs.tell(run("5", 0));
  assert.equal(shown.size, 0);
});

test("a kept result of another workflow's run is shown here, said to be kept, and a new run may follow", () => {
  const graph = { id: "b", nodes: [trainNode(5)] };
  const { runs, shown } = page(graph);
  runs.tell(run("5", 4, { workflow: "b", state: "failed", time: 20 }));
  runs.tellKept(5, run("8", 9, { state: "done", time: 10 }));
  assert.equal(shown.get(graph.nodes[0]).step, 9);
  assert.equal(shown.get(graph.nodes[0]).reused, true);
  runs.tell(run("5", 1, { workflow: "b", time: 21 }));
  assert.equal(shown.get(graph.nodes[0]).reused, false);
});

const A = "a".repeat(32);

test("a workflow that holds the id of a run shows it, also inside a subgraph and as a copy", () => {
  const node = { ...trainNode(5), properties: { textual_inversion_run: A } };
  const { runs, shown } = page({ id: "z", nodes: [{ id: 1, subgraph: { nodes: [node] } }, trainNode(5)] });
  runs.tell(run("5", 1, { run: A }));
  assert.deepEqual([...shown.keys()], [node]);
});

test("a node remembers the run that it shows", () => {
  const graph = { id: "a", nodes: [{ ...trainNode(5), properties: { loss_axis: "log" } }] };
  const { runs } = page(graph);
  runs.tell(run("5", 1, { run: A }));
  assert.deepEqual(graph.nodes[0].properties, { loss_axis: "log", textual_inversion_run: A });
});

test("a run that nobody trains now is read from disk when its workflow is opened", async () => {
  const node = { ...trainNode(5), properties: { textual_inversion_run: A } };
  const graph = { id: "a", nodes: [{ id: 1, subgraph: { nodes: [node] } }, trainNode(6)] };
  const { runs, shown } = page(graph);
  const asked = [];
  await runs.showAll(async (id) => asked.push(id) && { ...run("5", 7), run: id });
  assert.deepEqual(asked, [A]);
  assert.equal(shown.get(node).step, 7);
  await runs.showAll(async () => null); // deleted meanwhile
  assert.equal(shown.size, 1);
});

test("the nodes of a class are found in subgraphs too", () => {
  const inner = { id: 3, comfyClass: "TI_LoadRun" };
  const graph = { nodes: [{ id: 7, subgraph: { nodes: [inner, trainNode(4)] } }, trainNode(3)] };
  assert.deepEqual(nodesOfClass(graph, "TI_LoadRun"), [inner]);
  assert.deepEqual(nodesOfClass(undefined, "TI_LoadRun"), []);
});
