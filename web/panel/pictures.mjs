// Rows of small pictures: the newest runs to choose from, and the previews of one run.

import { create } from "./element.mjs";

const CSS = `
.ti-pictures {
  display: flex; gap: 4px; flex: none; position: relative; overflow-x: auto; padding: 3px;
  scrollbar-width: thin; scrollbar-color: color-mix(in srgb, currentColor 40%, transparent) transparent;
}
.ti-pictures > * {
  flex: none; width: 68px; box-sizing: border-box; padding: 2px; border: 0; border-radius: 5px; cursor: pointer;
  font: inherit; font-size: 10px; line-height: 1.25; text-align: center; text-decoration: none; color: inherit; background: none;
}
.ti-pictures > *:hover { background: color-mix(in srgb, currentColor 12%, transparent) }
.ti-pictures > *:focus-visible { outline: 2px solid currentColor; outline-offset: 0 }
.ti-pictures > [aria-pressed="true"] { background: color-mix(in srgb, #3b82f6 55%, transparent) }
.ti-pictures :is(img, .ti-none) { display: block; width: 64px; height: 64px; margin-bottom: 2px; object-fit: cover; border-radius: 4px }
.ti-pictures .ti-none {
  display: flex; align-items: center; justify-content: center; box-sizing: border-box; border: 1px dashed; opacity: .6;
}
.ti-pictures span { display: block; overflow: hidden; white-space: nowrap; text-overflow: ellipsis }
.ti-pictures > p { width: auto; margin: 0; padding: 4px; cursor: default; opacity: .8 }
`;

/**
 * The newest runs as buttons with their pictures: { element, show(runs), mark(id) }.
 * addressOf: gives the address of a picture. choose: called with the run that was pressed.
 */
export function createGallery(addressOf, choose) {
  const row = createRow("Newest runs");
  let buttons = [];
  let chosen = null;
  const mark = (id) => {
    chosen = id;
    for (const [run, button] of buttons) {
      button.setAttribute("aria-pressed", String(run.run === id));
      if (run.run === id) bringIntoView(row, button);
    }
  };
  return {
    element: row,
    show(runs) {
      buttons = runs.map((run) => [run, createRunButton(run, addressOf, choose)]);
      row.replaceChildren(createStyle(), ...buttons.map(([, button]) => button));
      row.style.display = runs.length ? "" : "none";
      mark(chosen);
    },
    mark,
  };
}

/** The previews of a run in the order of their steps: { element, show(pictures) }; null shows nothing. A click opens one whole. */
export function createFilmStrip(addressOf) {
  const row = createRow("Preview pictures");
  return {
    element: row,
    show(pictures) {
      const none = create("p", "");
      none.textContent = "This run has no preview pictures.";
      row.replaceChildren(createStyle(), ...(pictures?.length ? pictures.map((one) => createFrame(one, addressOf)) : [none]));
      row.style.display = pictures ? "" : "none";
      row.scrollLeft = row.scrollWidth; // to the result
    },
  };
}

// An element's own scrollIntoView would move the page as well.
function bringIntoView(row, button) {
  const room = row.clientWidth - button.offsetWidth;
  row.scrollLeft = Math.max(button.offsetLeft - room, Math.min(row.scrollLeft, button.offsetLeft));
}

function createRow(label) {
  const row = create("div", "display:none");
  row.className = "ti-pictures";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", label);
  // The wheel zooms the graph until somebody uses the row, as it does with the page's own lists.
  row.dataset.captureWheel = "true";
  row.addEventListener("wheel", (event) => {
    if (row.scrollWidth <= row.clientWidth || !row.contains(document.activeElement)) return;
    row.scrollLeft += event.deltaX + event.deltaY;
    event.preventDefault();
    event.stopPropagation();
  });
  return row;
}

function createRunButton(run, addressOf, choose) {
  const told = `${run.word}, ${run.date}, ${run.steps}`;
  const button = create("button", "", createPicture(run.picture, "", addressOf), createLine(run.word), createLine(run.date.slice(5)));
  button.type = "button";
  button.title = told;
  button.setAttribute("aria-label", told);
  button.addEventListener("click", () => choose(run));
  return button;
}

function createFrame(picture, addressOf) {
  const told = picture.step === null ? "result" : `step ${picture.step}`;
  const link = create("a", "", createPicture(picture, `Preview, ${told}`, addressOf), createLine(told));
  link.href = addressOf(picture);
  link.target = "_blank";
  link.title = `Open the picture: ${told}`;
  return link;
}

function createPicture(picture, alt, addressOf) {
  if (!picture) return createNone();
  const image = create("img", "");
  image.alt = alt;
  image.draggable = false; // the page would take it for a file that is dropped on the graph
  image.addEventListener("error", () => image.replaceWith(createNone())); // deleted since it was listed
  image.src = addressOf(picture);
  return image;
}

function createNone() {
  const none = create("div", "");
  none.className = "ti-none";
  none.textContent = "no picture";
  return none;
}

function createLine(text) {
  const line = create("span", "");
  line.textContent = text;
  return line;
}

// What styles of elements cannot say: which one has the focus, or the pointer.
function createStyle() {
  const style = create("style", "");
  style.textContent = CSS;
  return style;
}
