"""What is wrong with an open page, for a reader or for privacy."""

from __future__ import annotations

from support.browser import Visit

# What a reader would stumble over, looked for in the page itself.
FAULTS = """
(() => {
  const faults = [], root = document.scrollingElement;
  if (root.scrollWidth > innerWidth) faults.push(`wider than the window: ${root.scrollWidth} > ${innerWidth}`);
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth) faults.push(`image not loaded: ${image.alt}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, at = node.parentElement, words = node.data.trim();
    range.selectNodeContents(node);
    if (!words || !range.getClientRects().length || at.closest('.hidden')) continue;
    const size = parseFloat(getComputedStyle(at).fontSize);
    if (size < 11) faults.push(`small words, ${size} px: ${words}`);
    const box = range.getBoundingClientRect();
    if (!at.closest('.scroll, pre') && (box.left < 0 || box.right > innerWidth))
      faults.push(`words outside of the window: ${words}`);
  }
  for (const axis of document.querySelectorAll('.axis')) {
    const boxes = [...axis.children].map(tick => tick.getBoundingClientRect());
    for (let i = 1; i < boxes.length; i++)
      if (boxes[i].left < boxes[i - 1].right) faults.push(`ticks overlap: ${axis.textContent}`);
  }
  for (const part of document.querySelectorAll('section')) {
    const box = part.getBoundingClientRect();
    if (!part.querySelector('h2') || box.width < 200 || box.height < 60) faults.push(`not to be seen: ${part.id}`);
  }
  return faults;
})()
"""


def faults(visit: Visit, address: str) -> list[str]:
    """Everything wrong with an open page, folds closed and open; requests to what does not begin with `address` too."""
    found = list(visit.evaluate(FAULTS))
    visit.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    found += visit.evaluate(FAULTS)
    found += visit.complaints
    found += [f"request: {request}" for request in visit.requests if not request.startswith(address)]
    return found
