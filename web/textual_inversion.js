// Live loss chart on Train Textual Inversion, the chosen run on Load Run, and the reports of the nodes. Everything else in
// this folder is imported from here.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { CHOSEN_RUN_HEIGHT, createChosenRun } from "./panel/chosen_run.mjs";
import { createPanel, LEAST_HEIGHT } from "./panel/panel.mjs";
import { createRuns, findNode, nodesOfClass } from "./panel/runs.mjs";
import { addReport, showError, showReport } from "./report/node_report.mjs";

const RUNS = "/textual_inversion/runs";
const SAVED_RUNS = "/textual_inversion/saved_runs";
const panels = new WeakMap(); // Train or Load Run node -> its panel
const rootGraph = () => app.rootGraph ?? app.graph;
const runs = createRuns(rootGraph, (node) => panels.get(node));
let kept = { prompt: null, nodes: [] }; // what the host did not execute again of the prompt that it executes now

const chartOf = (node) => ({
  isLogarithmic: () => node.properties?.loss_axis === "log",
  setLogarithmic: (flag) => node.setProperty("loss_axis", flag ? "log" : "linear"),
  ask: (run, wish) => api.fetchApi(`${RUNS}/${run}/${wish}`, { method: "POST" }),
});

function addPanel(node, panel, leastHeight, leastWidth) {
  panels.set(node, panel);
  const widget = node.addDOMWidget("loss_chart", "TI_LOSS_CHART", panel.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => leastHeight,
  });
  widget.serialize = false; // the option above keeps it out of the prompt, this one out of the saved workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0], leastWidth), Math.max(height, node.size[1])]);
}

function addChosenRun(node) {
  const list = node.widgets.find((widget) => widget.name === "run");
  const chosen = createChosenRun(
    {
      ...chartOf(node),
      entry: () => list.value,
      choose(entry) {
        const { values } = list.options; // as old as the page, or as the last R; Nodes 2.0 marks what is not in them
        if (Array.isArray(values) && !values.includes(entry)) list.options.values = [entry, ...values];
        app.canvas.emitBeforeChange(); // so that the page keeps it, as one step that can be undone
        list.value = entry;
        list.callback?.(entry);
        app.canvas.emitAfterChange();
        node.setDirtyCanvas(true, true);
      },
    },
    { readRun, readNewest, addressOf },
  );
  addPanel(node, chosen, CHOSEN_RUN_HEIGHT, 400);

  const { callback } = list;
  list.callback = function (...values) {
    const answer = callback?.apply(this, values);
    chosen.showChosen();
    return answer;
  };
  // A node gets its values right after it was made, if it comes from a workflow or the clipboard.
  let timer;
  const showSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(chosen.showAll);
  };
  const { onConfigure } = node;
  node.onConfigure = function (...values) {
    onConfigure?.apply(this, values);
    showSoon();
  };
  showSoon();
}

const chosenRuns = () => nodesOfClass(rootGraph(), "TI_LoadRun").flatMap((node) => panels.get(node) ?? []);

// What went on while this page was not open.
async function tellMissedRuns() {
  const answer = await api.fetchApi(RUNS);
  if (answer.ok) (await answer.json()).forEach(runs.tell);
}

// A run by its id or the beginning of it, or a sentence why there is none.
async function readRun(id) {
  const answer = await api.fetchApi(`${RUNS}/${encodeURIComponent(id)}`);
  const isOurs = answer.ok || answer.status === 404;
  return isOurs ? answer.json() : { sentence: `The server cannot read this run: ${answer.status} ${answer.statusText}` };
}

async function readNewest() {
  const answer = await api.fetchApi(SAVED_RUNS);
  return answer.ok ? answer.json() : [];
}

function addressOf({ filename, subfolder, type, written }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, written })}`);
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
    api.addEventListener("textual_inversion.step", ({ detail }) => {
      runs.tell(detail);
      for (const chosen of chosenRuns()) chosen.tell(detail);
    });
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
    if (node.comfyClass === "TI_Train") addPanel(node, createPanel(chartOf(node)), LEAST_HEIGHT, 340);
    if (node.comfyClass === "TI_LoadRun") addChosenRun(node);
    addReport(node);
  },

  loadedGraphNode(node) {
    panels.get(node)?.redraw(); // its saved axis is known only now
  },

  afterConfigureGraph() {
    runs.showAll(async (id) => {
      const run = await readRun(id);
      return run.run ? run : null;
    });
  },

  // R, and the menu's Refresh: the lists of all nodes are new.
  refreshComboInNodes() {
    for (const chosen of chosenRuns()) chosen.showAll();
  },

  // The page gives back what the nodes of a workflow had given out when it is opened again.
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {})) showOutput(id, output, false);
  },
});
