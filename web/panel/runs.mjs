// Which Train node shows which run. Every message of the server holds a whole run and says which workflow and which node
// it belongs to, so that a run is there again when the user comes back to its workflow, and no other workflow gets it.

const TRAIN_NODE = "TI_Train";

/** The runs of a page. `rootGraph` is a function that gives the open graph, `panelOf(node)` a node's panel if it has one. */
export function createRuns(rootGraph, panelOf) {
  const newest = new Map(); // "workflow/node" -> run

  function showOne(run) {
    const graph = rootGraph();
    if (!graph?.id || graph.id !== run.workflow) return;
    const node = findNode(graph, run.node);
    if (node?.comfyClass === TRAIN_NODE) panelOf(node)?.show(run);
  }

  /** A message of the server about a run; an older one than the page has already is left out. */
  function tell(run) {
    const place = `${run.workflow}/${run.node}`;
    if (!run.workflow || newest.get(place)?.time > run.time) return;
    newest.set(place, run);
    showOne(run);
  }

  return {
    tell,

    /** The host gives out what it has kept of an earlier run, perhaps of another workflow, as the result of this node. */
    tellKept(nodeId, run) {
      const workflow = rootGraph()?.id;
      const time = Math.max(run.time, newest.get(`${workflow}/${nodeId}`)?.time ?? 0);
      tell({ ...run, workflow, node: String(nodeId), time, reused: true });
    },

    /** A graph was opened: its nodes are new and show nothing yet. */
    showAll() {
      for (const run of newest.values()) showOne(run);
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
