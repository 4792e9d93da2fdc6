// Numbers as text, and elements of the page.

const DASH = "–";

/** A number with its unit; a dash for one that is not known. */
function quantity(value, unit = "", digits = 0) {
  if (value === null || value === undefined) return DASH;
  return value.toFixed(digits) + (unit && `\u00a0${unit}`);
}

const milliseconds = (value_s) => quantity(value_s === null ? null : value_s * 1e3, "ms");
const kibibytes = (bytes) => quantity(bytes === null ? null : bytes / 1024, "KiB");
const megabits = (mbps) => quantity(mbps, "Mbps", 1);
const score = (f1) => quantity(f1, "", 2);
const percent = (share) => quantity(share * 100, "%");

/** Number and noun, in the plural where it is not one. */
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** tau_d / quality / restoration point, the label of a configuration. */
const label = ({ tau_d, quality, restoration_point }) => `${tau_d}/${quality}/${restoration_point}`;

/** A configuration in words. */
const inWords = ({ tau_d, quality, restoration_point, second_round_of = -1 }) =>
  `tau_d ${tau_d}, quality ${quality}, restoration point ${restoration_point}` +
  (second_round_of < 0 ? "" : ", second round");

/**
 * A new element.
 * @param {string} tag name of the element, with classes after dots: "p.note"
 * @param {object} attributes attributes by name; functions are listeners of the event of that name
 * @param {...(Node|string)} children
 */
function element(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  made.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A table of rows; the first cell of each row is its heading. */
function table(head, rows, attributes = {}) {
  const heading = (text, scope) => element("th", { scope }, text);
  const body = rows.map(([first, ...cells]) =>
    element("tr", {}, heading(first, "row"), ...cells.map((cell) => element("td", {}, cell))),
  );
  const made = element("table", attributes, element("tbody", {}, ...body));
  if (head.length) made.createTHead().append(element("tr", {}, ...head.map((text) => heading(text, "col"))));
  return made;
}

/** Something that is folded away until it is asked for. */
const folded = (summary, ...children) =>
  element("details", {}, element("summary", {}, summary), ...children);
