// What is known of one training run, as the server's messages hold it whole: { step, steps, batches, smoothed, evaluations, result,
// stopped, state, sentence, reused, run }. Pure: no page, no canvas.

/** What a node shows that has not trained yet. */
export function emptyHistory() {
  return { step: -1, steps: 0, batches: [], smoothed: [], evaluations: [], result: null, stopped: null, state: "none", sentence: null, reused: false, run: null };
}

/** What a node shows in place of a run that is not there. sentence: why. */
export function unknownRun(sentence) {
  return { ...emptyHistory(), state: "unknown", sentence };
}

/** Whether the run goes on now and can be asked to stop, or for a sample. */
export function canBeAsked(history) {
  return history.state === "running" && history.step >= 0 && Boolean(history.run);
}

/** The last step of the horizontal axis: the whole run while it goes on, what was trained once it has ended. */
export function lastStep(history) {
  return Math.max(1, history.state === "running" ? history.steps : history.step);
}

/** One sentence for the line below the chart and for screen readers. */
export function summary(history) {
  if (history.state === "none") return "The loss is drawn here while the word is learned.";
  if (history.state === "unknown") return history.sentence;
  const parts = history.step < 0 ? [] : [`step ${history.step} of ${history.steps}`];
  const latest = history.smoothed.at(-1);
  if (latest) parts.push(`smoothed loss ${shortNumber(latest[1])}`);
  if (history.result) parts.push(`result ${shortNumber(history.result.loss)}, ${history.result.states}`);
  if (history.state === "running" && history.step < 0) parts.push("preparing");
  if (history.state === "cancelled") parts.push(history.sentence ?? "cancelled");
  if (history.state === "failed") parts.push(`failed: ${history.sentence}`);
  if (history.state === "done") parts.push(history.stopped ?? "done");
  if (history.reused) parts.push("not trained again");
  return parts.join(" · ");
}

/** Three significant digits without trailing zeros. */
export function shortNumber(value) {
  return String(Number(value.toPrecision(3)));
}
