// The part of the Train node that shows the loss: a canvas, one line of text, and the switch of the axis.

import { drawChart } from "./chart.mjs";
import { create } from "./element.mjs";
import { canBeAsked, emptyHistory, summary } from "./history.mjs";

export const LEAST_HEIGHT = 150;
const THREE_LINES = "flex:1 1 0;min-width:0;line-height:1.3;max-height:3.9em;overflow:hidden";
// The sentence of an error can be long; it can be scrolled, marked and copied.
const ERROR = "flex:1 1 0;min-width:0;line-height:1.3;max-height:130px;overflow:auto;user-select:text;white-space:pre-wrap;color:var(--error-text)";

/**
 * A panel as { element, show(history), redraw() }.
 * node: { isLogarithmic(), setLogarithmic(flag), ask(run, wish) }. The axis is asked for at every drawing because a saved
 * node gets its settings late. ask sends a wish, "stop" or "sample", to whoever trains the run.
 */
export function createPanel(node) {
  const canvas = create("canvas", "position:absolute;inset:0;width:100%;height:100%");
  const chart = create("div", "position:relative;flex:1 1 0;min-height:0", canvas);
  chart.setAttribute("role", "img");
  const text = create("div", THREE_LINES);
  const stop = createButton("Stop & keep", "End the run after this step and use what it has learned; it can go on later", () => wish("stop"));
  const sample = createButton("Sample now", "Draw a picture of the word as it is after this step", () => wish("sample"));
  const axis = createButton("", "Switch the loss axis between linear and logarithmic", () => {
    node.setLogarithmic(!node.isLogarithmic());
    redraw();
  });
  const footer = create("div", "display:flex;gap:6px;align-items:flex-start;flex:none;padding:2px 4px 4px", text, sample, stop, axis);
  const element = create(
    "div",
    `display:flex;flex-direction:column;box-sizing:border-box;width:100%;height:100%;min-height:${LEAST_HEIGHT}px;overflow:hidden;` +
      "font:11px system-ui,sans-serif;color:var(--input-text);background:var(--comfy-input-bg);border-radius:6px",
    chart,
    footer,
  );

  let history = emptyHistory();
  let isFrameAsked = false;

  function draw() {
    isFrameAsked = false;
    const logarithmic = node.isLogarithmic();
    // The layout's own pixels: the zoom of the graph is a transform and must not enter.
    const [width, height] = [chart.clientWidth, chart.clientHeight];
    const sentence = summary(history);
    text.textContent = sentence;
    text.title = sentence;
    text.style.cssText = history.state === "failed" ? ERROR : THREE_LINES;
    chart.setAttribute("aria-label", `Loss chart: ${sentence}`);
    axis.textContent = logarithmic ? "log" : "linear";
    for (const button of [stop, sample]) button.style.display = canBeAsked(history) ? "" : "none";
    if (!width || !height) return;
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    const ctx = canvas.getContext("2d");
    ctx.setTransform(density, 0, 0, density, 0, 0);
    drawChart(ctx, history, { width, height, logarithmic, theme: themeOf(element) });
  }

  function redraw() {
    if (isFrameAsked) return;
    isFrameAsked = true;
    requestAnimationFrame(draw);
  }

  // The server answers with what it does next; a button that was pressed waits for that.
  async function wish(what) {
    const button = what === "stop" ? stop : sample;
    button.disabled = true;
    try {
      await node.ask(history.run, what);
    } finally {
      setTimeout(() => (button.disabled = false), 1000);
    }
  }

  // Also called when the host moves the element into the page, so a panel that was made off screen gets drawn.
  new ResizeObserver(redraw).observe(chart);
  draw();

  return {
    element,
    show(newHistory) {
      history = newHistory;
      redraw();
    },
    redraw,
  };
}

function createButton(label, title, pressed) {
  const button = create("button", "flex:none;font:inherit;color:inherit;background:none;cursor:pointer;padding:0 4px;border:1px solid;border-radius:4px;opacity:.8");
  button.type = "button";
  button.textContent = label;
  button.title = title;
  button.addEventListener("click", pressed);
  return button;
}

// The host's themes set colours of text and surfaces; the colours of the lines are chosen to be told apart on either.
function themeOf(element) {
  const style = getComputedStyle(element);
  const isDark = luminance(style.backgroundColor) < 0.5;
  return {
    muted: isDark ? "#b4b4b4" : "#555555",
    grid: isDark ? "rgba(255,255,255,.14)" : "rgba(0,0,0,.14)",
    raw: isDark ? "rgba(96,165,250,.45)" : "rgba(29,78,216,.35)",
    line: isDark ? "#60a5fa" : "#1d4ed8",
    dot: isDark ? "#fbbf24" : "#b45309",
    result: isDark ? "#4ade80" : "#15803d",
  };
}

function luminance(colour) {
  const [red, green, blue] = (colour.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
}
