// Draws the loss of a training run on a canvas. Pure: everything it draws with is passed in.

import { lastStep, shortNumber } from "./history.mjs";

const FONT = "10px system-ui, sans-serif";
const MARGIN = { left: 40, right: 10, top: 18, bottom: 20 };

/**
 * Draws `history` into a width x height area of `ctx`.
 * theme: CSS colours { muted, grid, raw, line, dot, result }.
 */
export function drawChart(ctx, history, { width, height, logarithmic, theme }) {
  ctx.clearRect(0, 0, width, height);
  ctx.font = FONT;
  if (history.batches.length + history.evaluations.length === 0) return; // no axis that nothing lies on
  const scale = chartScale(history, { width, height, logarithmic });
  drawAxes(ctx, scale, theme);

  ctx.save();
  ctx.beginPath();
  ctx.rect(scale.left, scale.top - 4, scale.right - scale.left + 4, scale.bottom - scale.top + 4);
  ctx.clip(); // peaks of single batches may leave the chart
  drawLine(ctx, history.batches, scale, theme.raw, 1);
  drawLine(ctx, history.smoothed, scale, theme.line, 2);
  ctx.restore();
  if (history.batches.length === 1) drawDot(ctx, history.batches[0], scale, 2, theme.line); // a line needs two points
  for (const point of history.evaluations) drawDot(ctx, point, scale, 2.5, theme.dot);

  if (history.result) drawResult(ctx, history.result, scale, theme);
  drawLegend(ctx, history, scale, theme);
}

/** Where steps and losses lie on the canvas, and which numbers stand at the axes. */
export function chartScale(history, { width, height, logarithmic }) {
  const left = MARGIN.left;
  const right = Math.max(left + 1, width - MARGIN.right);
  const top = MARGIN.top;
  const bottom = Math.max(top + 1, height - MARGIN.bottom);
  const last = lastStep(history);
  const [low, high] = lossRange(history, logarithmic);
  const along = logarithmic
    ? (loss) => Math.log(Math.max(loss, low / 1e6) / low) / Math.log(high / low)
    : (loss) => (loss - low) / (high - low);
  return {
    left,
    right,
    top,
    bottom,
    x: (step) => left + (step / last) * (right - left),
    y: (loss) => bottom - along(loss) * (bottom - top),
    xTicks: linearTicks(0, last, Math.max(2, Math.floor((right - left) / 70))).filter(Number.isInteger),
    yTicks: (logarithmic ? logTicks : linearTicks)(low, high, Math.max(2, Math.floor((bottom - top) / 28))),
  };
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999) ?? 10 * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-12) + step * 1e-9; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

/** Numbers for a logarithmic axis: 1, 2, 5 of every decade; within less than that, ordinary round numbers. */
export function logTicks(low, high, count) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const m of [1, 2, 5]) ticks.push(Number((m * 10 ** power).toPrecision(12)));
  }
  const inside = ticks.filter((t) => t >= low && t <= high);
  if (inside.length < 2) return linearTicks(low, high, count);
  return inside.length <= 2 * count ? inside : inside.filter((t) => Number.isInteger(Math.log10(t)));
}

// A batch of samples with little noise can lose ten times as much as its neighbours. Such peaks may leave the chart: the
// range follows the smoothed line, the evaluations and nine tenths of the batches.
function lossRange(history, logarithmic) {
  const batches = history.batches.map((p) => p[1]).sort((a, b) => a - b);
  const at = (share) => batches[Math.min(batches.length - 1, Math.floor(share * batches.length))];
  const values = [...history.smoothed, ...history.evaluations].map((p) => p[1]);
  if (history.result) values.push(history.result.loss);
  if (batches.length) values.push(at(0.05), at(0.95));
  const usable = logarithmic ? values.filter((v) => v > 0) : values;
  if (!usable.length) return logarithmic ? [0.01, 1] : [0, 1];
  let low = usable.reduce((a, b) => Math.min(a, b));
  let high = usable.reduce((a, b) => Math.max(a, b));
  if (high - low < 1e-3 * Math.abs(high) || high === low) {
    const room = Math.abs(high) * 0.1 || 1;
    [low, high] = [logarithmic ? low / 1.1 : low - room, high + room];
  }
  if (logarithmic) return [low / (high / low) ** 0.06, high * (high / low) ** 0.06];
  const room = 0.06 * (high - low);
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function drawAxes(ctx, scale, theme) {
  ctx.lineWidth = 1;
  ctx.strokeStyle = theme.grid;
  ctx.fillStyle = theme.muted;
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  for (const loss of scale.yTicks) {
    const y = crisp(scale.y(loss));
    strokeSegment(ctx, scale.left, y, scale.right, y);
    ctx.fillText(shortNumber(loss), scale.left - 5, y);
  }
  ctx.textBaseline = "top";
  for (const step of scale.xTicks) {
    const x = crisp(scale.x(step));
    strokeSegment(ctx, x, scale.bottom, x, scale.bottom + 3);
    ctx.textAlign = step === 0 ? "left" : scale.right - x < 14 ? "right" : "center";
    ctx.fillText(String(step), x, scale.bottom + 6);
  }
  strokeSegment(ctx, scale.left, crisp(scale.bottom), scale.right, crisp(scale.bottom));
}

function drawLine(ctx, points, scale, colour, lineWidth) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = lineWidth;
  ctx.lineJoin = "round";
  ctx.beginPath();
  points.forEach(([step, loss], i) => {
    if (i) ctx.lineTo(scale.x(step), scale.y(loss));
    else ctx.moveTo(scale.x(step), scale.y(loss));
  });
  ctx.stroke();
}

function drawDot(ctx, [step, loss], scale, radius, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(scale.x(step), scale.y(loss), radius, 0, 2 * Math.PI);
  ctx.fill();
}

// A line over the steps whose states the result is the mean of, with a dot at its end.
function drawResult(ctx, { steps: [first, last], loss }, scale, theme) {
  ctx.strokeStyle = theme.result;
  ctx.lineWidth = 1;
  ctx.setLineDash([3, 3]);
  strokeSegment(ctx, scale.x(first), crisp(scale.y(loss)), scale.x(last), crisp(scale.y(loss)));
  ctx.setLineDash([]);
  drawDot(ctx, [last, loss], scale, 4, theme.result);
}

function drawLegend(ctx, history, scale, theme) {
  const entries = [];
  if (history.batches.length) entries.push(["loss of batches", theme.raw], ["smoothed", theme.line]);
  if (history.evaluations.length) entries.push(["fixed set", theme.dot]);
  if (history.result) entries.push(["result", theme.result]);
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  let x = scale.left - 30; // four entries need most of a node's width
  for (const [text, colour] of entries) {
    ctx.fillStyle = colour;
    ctx.fillRect(x, 6, 8, 3);
    ctx.fillStyle = theme.muted;
    ctx.fillText(text, x + 12, 8);
    x += 22 + ctx.measureText(text).width;
  }
}

function strokeSegment(ctx, x1, y1, x2, y2) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}

// Lines of one pixel are sharp only when they run through the middle of pixels.
const crisp = (position) => Math.round(position) + 0.5;
