/**
 * For a page's script: `update(mine, theirs)` makes an element of the page look like a fresh one, and touches only what
 * differs. So focus, selection and scrolling stay, bars move, and nothing is announced that was said before.
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
