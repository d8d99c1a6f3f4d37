// Live loss chart on Train Textual Inversion, and the reports of the other nodes. Everything else in this folder is imported from here.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { createPanel, LEAST_HEIGHT } from "./panel/panel.mjs";
import { createRuns, findNode } from "./panel/runs.mjs";
import { addReport, showError, showReport } from "./report/node_report.mjs";

const RUNS = "/textual_inversion/runs";
const panels = new WeakMap(); // Train node -> its panel
const rootGraph = () => app.rootGraph ?? app.graph;
const runs = createRuns(rootGraph, (node) => panels.get(node));
let kept = { prompt: null, nodes: [] }; // what the host did not execute again of the prompt that it executes now

function addPanel(node) {
  const panel = createPanel({
    isLogarithmic: () => node.properties?.loss_axis === "log",
    setLogarithmic: (flag) => node.setProperty("loss_axis", flag ? "log" : "linear"),
    ask: (run, wish) => api.fetchApi(`${RUNS}/${run}/${wish}`, { method: "POST" }),
  });
  panels.set(node, panel);
  const widget = node.addDOMWidget("loss_chart", "TI_LOSS_CHART", panel.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LEAST_HEIGHT,
  });
  widget.serialize = false; // the option above keeps it out of the prompt, this one out of the saved workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0], 340), Math.max(height, node.size[1])]);
}

// What went on while this page was not open.
async function tellMissedRuns() {
  const answer = await api.fetchApi(RUNS);
  if (answer.ok) (await answer.json()).forEach(runs.tell);
}

async function readRun(id) {
  const answer = await api.fetchApi(`${RUNS}/${encodeURIComponent(id)}`);
  return answer.ok ? answer.json() : null;
}

function showOutput(nodeId, output, isKept) {
  for (const run of output?.loss_chart ?? []) {
    if (isKept) runs.tellKept(nodeId, run);
    else runs.tell(run);
  }
  showReport(findNode(rootGraph(), nodeId), output);
}

app.registerExtension({
  name: "textual_inversion.LossChart",

  setup() {
    api.addEventListener("textual_inversion.step", ({ detail }) => runs.tell(detail));
    api.addEventListener("execution_cached", ({ detail }) => {
      kept = { prompt: detail.prompt_id, nodes: detail.nodes.map(String) };
    });
    api.addEventListener("executed", ({ detail }) => {
      const isKept = detail.prompt_id === kept.prompt && kept.nodes.includes(String(detail.node));
      showOutput(detail.node, detail.output, isKept);
    });
    api.addEventListener("execution_error", ({ detail }) => {
      showError(findNode(rootGraph(), detail.node_id), detail.exception_message);
    });
    // A theme is a set of CSS variables on the root element; what is already drawn does not follow them by itself.
    const redrawAll = () => rootGraph()?.nodes?.forEach((node) => panels.get(node)?.redraw());
    new MutationObserver(redrawAll).observe(document.documentElement, { attributeFilter: ["style", "class"] });
    tellMissedRuns();
  },

  nodeCreated(node) {
    if (node.comfyClass === "TI_Train") addPanel(node);
    addReport(node);
  },

  loadedGraphNode(node) {
    panels.get(node)?.redraw(); // its saved axis is known only now
  },

  afterConfigureGraph() {
    runs.showAll(readRun);
  },

  // The page gives back what the nodes of a workflow had given out when it is opened again.
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {})) showOutput(id, output, false);
  },
});
