// What Load Run shows of the run that is chosen in its list, before it is executed: the newest runs, the chart, the previews.

import { create } from "./element.mjs";
import { unknownRun } from "./history.mjs";
import { createPanel, LEAST_HEIGHT } from "./panel.mjs";
import { createFilmStrip, createGallery } from "./pictures.mjs";

export const CHOSEN_RUN_HEIGHT = LEAST_HEIGHT + 210; // a chart and two rows of pictures

/**
 * A panel as { element, showAll(), showChosen(), tell(run), redraw() }.
 * node: what a panel asks of its node (see createPanel), and { entry(), choose(entry) } for its list.
 * server: { readRun(id), readNewest(), addressOf(picture) }. readRun gives a run or { sentence } that says why there is none.
 */
export function createChosenRun(node, server) {
  const gallery = createGallery(server.addressOf, (run) => node.choose(run.entry));
  const strip = createFilmStrip(server.addressOf);
  const panel = createPanel(node);
  panel.element.style.cssText += `;flex:1 1 ${LEAST_HEIGHT}px;height:auto`;
  const element = create(
    "div",
    "display:flex;flex-direction:column;box-sizing:border-box;width:100%;height:100%;overflow:hidden;" +
      `min-height:${CHOSEN_RUN_HEIGHT}px;font:11px system-ui,sans-serif;color:var(--input-text);` +
      "background:var(--comfy-input-bg);border-radius:6px",
    gallery.element,
    panel.element,
    strip.element,
  );
  let shown = null; // id of a run
  let asked = 0; // only the last of several questions is answered on the node

  async function showChosen() {
    const question = ++asked;
    const run = await server.readRun(idIn(node.entry())).catch(() => ({ sentence: "The server does not answer." }));
    if (question !== asked) return;
    shown = run.run ?? null;
    gallery.mark(shown);
    panel.show(shown ? run : unknownRun(run.sentence));
    strip.show(run.pictures ?? null);
  }

  panel.show(unknownRun(""));
  return {
    element,
    showChosen,
    redraw: panel.redraw,

    /** The list may have changed as well as what is chosen in it. */
    async showAll() {
      await Promise.all([showChosen(), server.readNewest().then(gallery.show, () => gallery.show([]))]);
    },

    /** A message of the server about a run that goes on. */
    tell(run) {
      if (!shown || run.run !== shown) return;
      if (run.state === "running") panel.show(run);
      else showChosen(); // with the pictures that it has now
    },
  };
}

/** The id of a run, or the beginning of it, at the end of an entry of the list. */
export function idIn(entry) {
  return String(entry).split(",").at(-1).trim();
}
