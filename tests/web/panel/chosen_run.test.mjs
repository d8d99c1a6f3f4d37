import assert from "node:assert/strict";
import { test } from "node:test";

import { idIn } from "../../../web/panel/chosen_run.mjs";

test("the id stands at the end of an entry, whatever the word is", () => {
  assert.equal(idIn("S*, 2026-11-30 15:02, 6 steps, fedcba98"), "fedcba98");
  assert.equal(idIn("a, b, 2026-11-30 15:02, 4 of 6 steps, fedcba98"), "fedcba98");
  assert.equal(idIn("fedcba98"), "fedcba98");
  assert.equal(idIn("no run on disk"), "no run on disk");
  assert.equal(idIn(undefined), "undefined");
});
