// Elements from data. Text is only ever set as text: names and errors come from elsewhere and may look like HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children
      .flat(Number.POSITIVE_INFINITY)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

export const h = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

export const find = (id) => document.getElementById(id);

/** Without touching what is so already: a screen reader would read it again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Draws the inside of an element again when its data is another one, and leaves it alone otherwise: selected text, scroll
 * and focus stay. What has the focus is found again by its `data-key`.
 */
export function redraw(element, data, draw) {
  const stamp = JSON.stringify(data);
  if (element.stamp === stamp) return;
  element.stamp = stamp;
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const drawn = draw();
  element.replaceChildren(...[drawn].flat(Number.POSITIVE_INFINITY).filter(Boolean));
  element.hidden = element.childNodes.length === 0;
  if (key !== undefined) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}
