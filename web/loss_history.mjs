// What is known about the loss of one training run, collected from the server's `textual_inversion.step` events.
// Pure: no page, no canvas.

// Beyond this many points neighbours are averaged, so a run of a million steps costs no more memory than a short one.
const MOST_POINTS = 4096;

/** An empty history: nothing has been trained yet. */
export function emptyHistory() {
  return { step: -1, steps: 0, points: [], evaluations: [], stopped: null, done: false, cancelled: false };
}

/** The history after an event of the server. A step that does not lie ahead of the last one begins a new run. */
export function applyEvent(history, event) {
  const isNewRun = event.step < history.step || history.done || history.cancelled;
  const before = isNewRun ? emptyHistory() : history;
  return {
    ...before,
    step: event.step,
    steps: event.steps,
    points: thinned([...before.points, ...finite(event.points)]),
    evaluations: [...before.evaluations, ...finite(event.evaluations)],
    stopped: event.stopped ?? null,
    done: Boolean(event.done),
  };
}

/** The history of a run that the user stopped or that failed. A finished run stays finished. */
export function cancel(history) {
  return history.done ? history : { ...history, cancelled: true };
}

/** The evaluation with the lowest loss as [step, loss], or null. It is the state that the node returns. */
export function bestEvaluation(history) {
  return history.evaluations.reduce((best, point) => (best === null || point[1] < best[1] ? point : best), null);
}

/** The last step of the horizontal axis: the whole run while it goes on, what was trained once it has ended. */
export function lastStep(history) {
  const ended = history.done || history.cancelled;
  return Math.max(1, ended ? history.step : history.steps);
}

/** Exponential moving average without the pull of its start; it forgets within a 25th of the run. */
export function smoothed(points) {
  const memory = Math.min(200, Math.max(4, points.length / 25));
  const keep = Math.exp(-1 / memory);
  let sum = 0;
  let weight = 0;
  return points.map(([step, loss]) => {
    sum = keep * sum + loss;
    weight = keep * weight + 1;
    return [step, sum / weight];
  });
}

/** One sentence for the line below the chart and for screen readers. */
export function summary(history) {
  if (history.step < 0) return "The loss is drawn here while the word is learned.";
  const parts = [`step ${history.step} of ${history.steps}`];
  const latest = smoothed(history.points).at(-1);
  if (latest) parts.push(`loss ${shortNumber(latest[1])}`);
  const best = bestEvaluation(history);
  if (best) parts.push(`best ${shortNumber(best[1])} at step ${best[0]}`);
  if (history.cancelled) parts.push("cancelled");
  else if (history.stopped) parts.push(history.stopped);
  else if (history.done) parts.push("done");
  return parts.join(" · ");
}

/** Three significant digits without trailing zeros. */
export function shortNumber(value) {
  return String(Number(value.toPrecision(3)));
}

// Step 0 has no training loss, and a run that blows up ends with a loss that is no number.
function finite(points) {
  return (points ?? []).filter(([, loss]) => Number.isFinite(loss));
}

function thinned(points) {
  if (points.length <= MOST_POINTS) return points;
  const half = [];
  for (let i = 0; i + 1 < points.length; i += 2) {
    half.push([points[i + 1][0], (points[i][1] + points[i + 1][1]) / 2]);
  }
  if (points.length % 2) half.push(points.at(-1));
  return half;
}
