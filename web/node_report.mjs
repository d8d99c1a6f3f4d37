// The report of a node, as text on the node: a panel that is there from the first report on.

const NAME = "report_text";
const LEAST_HEIGHT = 56;

/** Show `output.text`, what a node of this pack gave out for people to read, on `node`; nothing where either is missing. */
export function showReport(node, output) {
  if (!node?.comfyClass?.startsWith("TI_") || !output?.text) return;
  const panel = node.widgets?.find((widget) => widget.name === NAME) ?? addPanel(node);
  panel.element.value = [output.text].flat().join("\n");
}

function addPanel(node) {
  const element = document.createElement("textarea"); // its text can be scrolled, marked and copied
  element.readOnly = true;
  element.setAttribute("aria-label", "Report");
  element.style.cssText =
    "box-sizing:border-box;width:100%;height:100%;resize:none;border:0;border-radius:6px;padding:4px;" +
    "font:11px/1.3 system-ui,sans-serif;color:var(--input-text);background:var(--comfy-input-bg)";
  const panel = node.addDOMWidget(NAME, "TI_REPORT", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LEAST_HEIGHT,
  });
  panel.serialize = false; // the option keeps it out of the prompt, this out of the saved workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
  return panel;
}
