import assert from "node:assert/strict";
import { test } from "node:test";

import { addReport, showError, showReport } from "../../../web/report/node_report.mjs";

globalThis.document = { createElement: () => ({ style: {}, setAttribute() {} }) };

/** As much of a node as a panel needs: 60 px for each widget. */
function node(comfyClass, size = [200, 60]) {
  return {
    comfyClass,
    size,
    widgets: [],
    addDOMWidget(name, type, element) {
      this.widgets.push({ name, element });
      return this.widgets.at(-1);
    },
    computeSize() {
      return [180, 60 * this.widgets.length];
    },
    setSize(size) {
      this.size = size;
    },
  };
}

test("a report is shown in the panel, and the next one replaces it", () => {
  const save = node("TI_SaveEmbedding", [200, 10]);
  addReport(save);
  assert.deepEqual(save.size, [200, 60]);
  showReport(save, { text: ["Saved", "twice"] });
  assert.equal(save.widgets[0].element.value, "Saved\ntwice");
  showReport(save, { text: "Saved again" });
  showReport(save, { images: [] });
  showReport(save, null);
  assert.equal(save.widgets[0].element.value, "Saved again");
  assert.equal(save.widgets[0].serialize, false);
});

test("an error takes the place of the report, and the next report the place of the error", () => {
  const save = node("TI_SaveEmbedding");
  addReport(save);
  showReport(save, { text: ["Saved"] });
  const colour = save.widgets[0].element.style.color;
  showError(save, "The folder is full.");
  assert.equal(save.widgets[0].element.value, "The folder is full.");
  assert.notEqual(save.widgets[0].element.style.color, colour);
  showReport(save, { text: ["Saved again"] });
  assert.equal(save.widgets[0].element.value, "Saved again");
  assert.equal(save.widgets[0].element.style.color, colour);
  showError(undefined, "no such node");
});

test("a node that has the room keeps its size", () => {
  const save = node("TI_SaveEmbedding", [400, 190]);
  addReport(save);
  assert.deepEqual(save.size, [400, 190]);
});

test("nodes without a report of this kind get no panel, and text for them is left alone", () => {
  for (const other of [node("TI_Train"), node("PreviewAny")]) {
    addReport(other);
    showReport(other, { text: ["x"] });
    assert.deepEqual(other.widgets, []);
  }
  showReport(undefined, { text: ["x"] });
});
