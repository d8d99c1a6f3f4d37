// Live loss chart on Train Textual Inversion, and the reports of the other nodes. Everything else in this folder is imported from here.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { createLossPanel, LEAST_HEIGHT } from "./loss_panel.mjs";
import { addReport, showReport } from "./node_report.mjs";
import { createTrainCharts, findNode } from "./train_charts.mjs";

const panels = new WeakMap(); // Train node -> its panel
const rootGraph = () => app.rootGraph ?? app.graph;
const charts = createTrainCharts(rootGraph, (node) => panels.get(node));

function addLossPanel(node) {
  const panel = createLossPanel({
    isLogarithmic: () => node.properties?.loss_axis === "log",
    setLogarithmic: (flag) => node.setProperty("loss_axis", flag ? "log" : "linear"),
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

app.registerExtension({
  name: "textual_inversion.LossChart",

  setup() {
    api.addEventListener("textual_inversion.step", ({ detail }) => charts.step(detail));
    api.addEventListener("executed", ({ detail }) => {
      for (const chart of detail.output?.loss_chart ?? []) charts.finished(detail.node, chart);
      showReport(findNode(rootGraph(), detail.node), detail.output);
    });
    api.addEventListener("execution_interrupted", ({ detail }) => charts.ended(detail));
    api.addEventListener("execution_error", ({ detail }) => charts.ended(detail));
    // A theme is a set of CSS variables on the root element; what is already drawn does not follow them by itself.
    const redrawAll = () => rootGraph()?.nodes?.forEach((node) => panels.get(node)?.redraw());
    new MutationObserver(redrawAll).observe(document.documentElement, { attributeFilter: ["style", "class"] });
  },

  nodeCreated(node) {
    if (node.comfyClass === "TI_Train") addLossPanel(node);
    addReport(node);
  },

  loadedGraphNode(node) {
    panels.get(node)?.redraw(); // its saved axis is known only now
  },

  afterConfigureGraph() {
    charts.showAll();
  },

  // The page gives back what the nodes of a workflow had given out when it is opened again.
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {})) showReport(findNode(rootGraph(), id), output);
  },
});
