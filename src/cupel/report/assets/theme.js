(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  const button = document.getElementById("theme");
  const words = { auto: "as the system has them", light: "light", dark: "dark" };
  const order = ["auto", "light", "dark"];
  const kept = () => {
    try { return localStorage.getItem("cupel-theme"); } catch { return null; } // a file may keep nothing
  };
  const keep = (theme) => {
    try { localStorage.setItem("cupel-theme", theme); } catch { /* the choice lasts for this visit */ }
  };
  const set = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.dataset.theme = theme;
    button.querySelector("span").textContent = theme;
    button.setAttribute("aria-label", `Colours: ${words[theme]}`);
    document.dispatchEvent(new Event("cupel:theme"));
  };
  set(order.includes(kept()) ? kept() : "auto");
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(button.dataset.theme) + 1) % order.length];
    keep(next);
    set(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.dispatchEvent(new Event("cupel:theme")));
})();
