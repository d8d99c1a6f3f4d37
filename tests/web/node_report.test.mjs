import assert from "node:assert/strict";
import { test } from "node:test";

import { showReport } from "../../web/node_report.mjs";

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

test("a report is shown in one panel, and the next one replaces it", () => {
  const save = node("TI_SaveEmbedding", [200, 10]);
  showReport(save, { text: ["Saved", "twice"] });
  showReport(save, { text: ["Saved again"] });
  assert.equal(save.widgets.length, 1);
  assert.equal(save.widgets[0].element.value, "Saved again");
  assert.equal(save.widgets[0].serialize, false);
  assert.deepEqual(save.size, [200, 60]);
});

test("a node that has the room keeps its size", () => {
  const save = node("TI_SaveEmbedding", [400, 190]);
  showReport(save, { text: "Saved" });
  assert.deepEqual(save.size, [400, 190]);
});

test("without a report, and on nodes of others, nothing is added", () => {
  const train = node("TI_Train");
  const other = node("PreviewAny");
  showReport(train, { images: [] });
  showReport(train, null);
  showReport(other, { text: ["x"] });
  showReport(undefined, { text: ["x"] });
  assert.deepEqual([train.widgets, other.widgets], [[], []]);
});
