// The page is whole without this. It adds one thing: choosing which samples are listed.
"use strict";
for (const bar of document.querySelectorAll("[data-filter]")) {
  const cards = [...document.querySelectorAll(bar.dataset.filter)];
  const kinds = [...new Set(cards.map((card) => card.dataset.kind))];
  if (kinds.length < 2) continue;
  const status = bar.querySelector("output");
  const show = (kind, button) => {
    for (const card of cards) card.hidden = kind !== null && card.dataset.kind !== kind;
    for (const other of bar.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    status.textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} prompts`;
  };
  const add = (label, kind) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => show(kind, button));
    bar.insertBefore(button, status);
    return button;
  };
  const all = add("all", null);
  for (const kind of kinds) add(kind, kind);
  show(null, all);
  bar.hidden = false;
}
