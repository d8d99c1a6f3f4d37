// Elements of the page.

/** An element with a style and children. */
export function create(tag, style, ...children) {
  const element = document.createElement(tag);
  element.style.cssText = style;
  element.append(...children);
  return element;
}
