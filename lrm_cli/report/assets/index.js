// Filters the index by name and flag: cards and failures of this page, and links to the items of
// all other pages. ITEMS comes from items.js: [name, URL, page, flags].
"use strict";

const MOST_LINKS = 200;
const form = document.querySelector(".filter");
const text = document.getElementById("text");
const flag = document.getElementById("flag");
const elsewhere = document.getElementById("elsewhere");

function matches(name, flags) {
  const wanted = flag.value;
  const flagged = !wanted || (wanted === "-" ? !flags.length : flags.includes(wanted));
  return flagged && name.toLowerCase().includes(text.value.trim().toLowerCase());
}

function filter() {
  const active = Boolean(text.value.trim() || flag.value);
  for (const entry of document.querySelectorAll("#failures li")) {
    entry.hidden = Boolean(flag.value) || !matches(entry.dataset.name, []);
  }
  const cards = [...document.querySelectorAll(".card")];
  for (const card of cards) {
    const flags = card.dataset.flags.split(" ").filter(Boolean);
    card.hidden = !matches(card.dataset.name, flags);
  }
  const here = Number(document.body.dataset.page);
  const others = active
    ? ITEMS.filter(([name, , page, flags]) => page !== here && matches(name, flags))
    : [];
  elsewhere.hidden = !others.length;
  elsewhere.querySelector("ul").replaceChildren(
    ...others.slice(0, MOST_LINKS).map(([name, url]) => {
      const link = document.createElement("a");
      link.href = url;
      link.textContent = name;
      const entry = document.createElement("li");
      entry.append(link);
      return entry;
    }),
  );
  const shown = cards.filter((card) => !card.hidden).length;
  document.getElementById("found").textContent = active
    ? `${shown + others.length} of ${ITEMS.length}`
    : "";
}

form.hidden = false; // without JavaScript there is nothing to filter with
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter(); // browsers keep what was typed when one comes back
if (location.hash === "#failures") document.getElementById("failures")?.setAttribute("open", "");
