/**
 * Script function `update(mine, theirs)`: makes an element of the page equal to a fresh one and changes only what differs.
 * Focus, selection and scroll position survive, bars animate, and screen readers announce only changes.
 */
export const UPDATE_SCRIPT = `
function update(mine, theirs) {
  if (mine.isEqualNode(theirs)) return;
  if (mine.nodeType !== Node.ELEMENT_NODE) { mine.data = theirs.data; return; }
  for (const { name } of [...mine.attributes]) if (!theirs.hasAttribute(name)) mine.removeAttribute(name);
  for (const { name, value } of theirs.attributes) if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
  const old = [...mine.childNodes], fresh = [...theirs.childNodes];
  if (old.length === fresh.length && old.every((node, i) => node.nodeName === fresh[i].nodeName))
    old.forEach((node, i) => update(node, fresh[i]));
  else mine.replaceChildren(...fresh);
}
`;
