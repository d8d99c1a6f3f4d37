// The report of a node, as text on the node.

const NAME = "report_text";
const LEAST_HEIGHT = 56;
const REPORTING = [
  "TI_SaveEmbedding",
  "TI_LoadEmbedding",
  "TI_EncodePrompt",
  "TI_InspectEmbedding",
  "TI_MergeEmbeddings",
  "TI_LoadRun",
  "TI_PickStep",
  "TI_Dial",
];

/** Give `node` a panel for its report, if its kind gives one out. */
export function addReport(node) {
  if (!REPORTING.includes(node.comfyClass)) return;
  const element = document.createElement("textarea"); // its text can be scrolled, marked and copied
  element.readOnly = true;
  element.placeholder = "A run shows its report here";
  element.setAttribute("aria-label", "Report");
  element.style.cssText =
    `box-sizing:border-box;width:100%;height:100%;min-height:${LEAST_HEIGHT}px;resize:none;border:0;border-radius:6px;` +
    "padding:4px;font:11px/1.3 system-ui,sans-serif;color:var(--input-text);background:var(--comfy-input-bg)";
  const panel = node.addDOMWidget(NAME, "TI_REPORT", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LEAST_HEIGHT,
  });
  panel.serialize = false; // the option keeps it out of the prompt, this out of the saved workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
}

/** Show `output.text`, what the node gave out for people to read; nothing where either is missing. */
export function showReport(node, output) {
  if (output?.text) write(node, [output.text].flat().join("\n"), "var(--input-text)");
}

/** Show why the node failed, in place of the report of an earlier run. */
export function showError(node, sentence) {
  write(node, sentence, "var(--error-text)");
}

function write(node, text, colour) {
  const panel = node?.widgets?.find((widget) => widget.name === NAME);
  if (!panel) return;
  panel.element.value = text;
  panel.element.style.color = colour;
}
