"use strict";
// Comfort only: without this script everything on the page can be read and reached.
(() => {
  const root = document.documentElement;
  const all = [...document.querySelectorAll("details.scenario")];
  const filter = document.getElementById("filter");
  const only = document.getElementById("only");
  const shown = document.getElementById("shown");
  root.classList.add("js");

  // What is looked through: names, tags, sentences; read once, on the first key.
  let words;
  const text = (scenario) =>
    [...scenario.querySelectorAll(".title, .id, .tag, .said, .problems")]
      .map((element) => element.textContent)
      .join(" ")
      .toLowerCase();

  const apply = () => {
    words ??= new Map(all.map((scenario) => [scenario, text(scenario)]));
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const scenario of all) {
      const match =
        wanted.every((word) => words.get(scenario).includes(word)) &&
        (!only.checked || scenario.dataset.verdict !== "reconciled");
      scenario.hidden = !match;
      count += match ? 1 : 0;
    }
    shown.textContent = wanted.length || only.checked ? `${count} of ${all.length} shown` : "";
  };
  filter.addEventListener("input", apply);
  only.addEventListener("change", apply);
  filter.form.addEventListener("submit", (event) => event.preventDefault());

  const setOpen = (open) => {
    for (const scenario of all) if (!scenario.hidden) scenario.open = open;
  };
  document.getElementById("expand").addEventListener("click", () => setOpen(true));
  document.getElementById("collapse").addEventListener("click", () => setOpen(false));

  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // The exact text goes to the clipboard; where the browser gives none, it is selected, ready to be copied.
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      let done = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }

  // A link into a closed scenario opens it (browsers do so themselves only lately).
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let element = target; element; element = element.parentElement) {
      if (element.tagName === "DETAILS") {
        element.hidden = false;
        element.open = true;
      }
    }
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
