// Which Train node shows which run. Every message of the server holds a whole run and says which workflow and which node
// it belongs to, so that a run is there again when the user comes back to its workflow, and no other workflow gets it.

const TRAIN_NODE = "TI_Train";
const RUN = "textual_inversion_run"; // property of a node, saved in the workflow: id of the run that it showed last

/**
 * The runs of a page. A node shows the newest run of its workflow and place, and the run whose id its workflow holds, also
 * where that was opened under another name.
 * rootGraph: a function that gives the open graph. panelOf: a function that gives a node's panel, if it has one.
 */
export function createRuns(rootGraph, panelOf) {
  const newest = new Map(); // "workflow/node" -> run
  const place = (run) => `${run.workflow}/${run.node}`;

  function showOn(node, run) {
    if (run.run) node.properties = { ...node.properties, [RUN]: run.run };
    panelOf(node)?.show(run);
  }

  function showOne(run) {
    const graph = rootGraph();
    const node = graph?.id && graph.id === run.workflow ? findNode(graph, run.node) : undefined;
    for (const one of nodesOfClass(graph, TRAIN_NODE)) if (one === node || (run.run && runOf(one) === run.run)) showOn(one, run);
  }

  /** A message of the server about a run; an older one than the page has already is left out. */
  function tell(run) {
    if (!run.workflow || newest.get(place(run))?.time > run.time) return;
    newest.set(place(run), run);
    showOne(run);
  }

  return {
    tell,

    /** The host gives out what it has kept of an earlier run, perhaps of another workflow, as the result of this node. */
    tellKept(nodeId, run) {
      const here = { workflow: rootGraph()?.id, node: String(nodeId) };
      const time = Math.max(run.time, newest.get(place(here))?.time ?? 0);
      tell({ ...run, ...here, time, reused: true });
    },

    /**
     * A graph was opened: its nodes are new and show nothing yet.
     * read: an asynchronous function that gives a run by its id, as the server has it on disk, or null.
     */
    async showAll(read) {
      for (const run of newest.values()) showOne(run);
      const known = new Set([...newest.values()].map((run) => run.run));
      for (const node of nodesOfClass(rootGraph(), TRAIN_NODE)) {
        const id = runOf(node);
        if (!id || known.has(id)) continue;
        const run = await read(id);
        const isKnownNow = [...newest.values()].some((one) => one.run === id); // it was told while the server answered
        if (run && runOf(node) === id && !isKnownNow) panelOf(node)?.show(run);
      }
    },
  };
}

/** The node that an execution id means. Inside subgraphs the id is the path of ids to it, such as "7:12". */
export function findNode(graph, executionId) {
  const path = String(executionId).split(":");
  const last = path.pop();
  // Ids are numbers in older frontends and strings in newer ones.
  const nodeIn = (g, id) => nodesOf(g).find((node) => String(node.id) === id);
  for (const id of path) graph = nodeIn(graph, id)?.subgraph;
  return nodeIn(graph, last);
}

function nodesOf(graph) {
  return graph?.nodes ?? graph?._nodes ?? [];
}

/** All nodes of a class in a graph and in the subgraphs in it. */
export function nodesOfClass(graph, comfyClass) {
  return nodesOf(graph).flatMap((node) => (node.comfyClass === comfyClass ? [node] : nodesOfClass(node.subgraph, comfyClass)));
}

function runOf(node) {
  return node.properties?.[RUN];
}
