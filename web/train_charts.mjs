// Which Train node shows which run. Runs are known by the graph and the node that were open when they began, so a run that
// goes on while another workflow is open is there again when the user comes back.

import { applyEvent, cancel, emptyHistory } from "./loss_history.mjs";

const TRAIN_NODE = "TI_Train";

/** The charts of a page. `rootGraph` is a function that gives the open graph, `panelOf(node)` a node's panel if it has one. */
export function createTrainCharts(rootGraph, panelOf) {
  const histories = new Map(); // "graph id/node id" -> history
  const running = new Map(); // node id -> key of its newest run

  function showOne(key) {
    const [graphId, nodeId] = split(key);
    const graph = rootGraph();
    if (String(graph?.id ?? "") !== graphId) return;
    const node = findNode(graph, nodeId);
    if (node?.comfyClass === TRAIN_NODE) panelOf(node)?.show(histories.get(key));
  }

  return {
    /** A `textual_inversion.step` event. */
    step(event) {
      const nodeId = String(event.node);
      if (event.step === 0 || !running.has(nodeId)) running.set(nodeId, `${rootGraph()?.id ?? ""}/${nodeId}`);
      const key = running.get(nodeId);
      histories.set(key, applyEvent(histories.get(key) ?? emptyHistory(), event));
      showOne(key);
    },

    /** The host gives out the result of a node: also a kept one, of a run that this page has not seen. */
    finished(nodeId, event) {
      const key = `${rootGraph()?.id ?? ""}/${nodeId}`;
      if (running.get(String(nodeId)) === key) return; // seen live, with every point
      histories.set(key, applyEvent(emptyHistory(), event));
      showOne(key);
    },

    /** The host says that the node was interrupted or failed. */
    ended(event) {
      const key = running.get(String(event.node_id));
      if (!key) return;
      histories.set(key, cancel(histories.get(key)));
      showOne(key);
    },

    /** A graph was opened: its nodes are new and show nothing yet. */
    showAll() {
      for (const key of histories.keys()) showOne(key);
    },
  };
}

/** The node that an execution id means. Inside subgraphs the id is the path of ids to it, such as "7:12". */
export function findNode(graph, executionId) {
  const path = String(executionId).split(":");
  const last = path.pop();
  // Ids are numbers in older frontends and strings in newer ones.
  const nodeIn = (g, id) => (g?.nodes ?? g?._nodes ?? []).find((node) => String(node.id) === id);
  for (const id of path) graph = nodeIn(graph, id)?.subgraph;
  return nodeIn(graph, last);
}

function split(key) {
  const at = key.lastIndexOf("/");
  return [key.slice(0, at), key.slice(at + 1)];
}
