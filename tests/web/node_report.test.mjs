import assert from "node:assert/strict";
import { test } from "node:test";

import { addReport, showReport } from "../../web/node_report.mjs";

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
