(() => {
  "use strict";
  const tip = document.getElementById("tip");
  let chart = null, path = null, index = 0, pin = null;

  const points = (element) => {
    if (!element.points) {
      element.points = [...element.getAttribute("d").matchAll(/(-?[\d.]+),(-?[\d.]+)/g)]
        .map((match) => [Number(match[1]), Number(match[2])]);
    }
    return element.points;
  };
  const lines = (element) => [...element.querySelectorAll("path.s")].filter((p) => points(p).length);
  const shown = (value, unit) => {
    if (unit === "rate") return (100 * value).toFixed(1) + "\u202f%";
    const number = Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
    return unit ? number + "\u202f" + unit : number;
  };

  const hide = () => {
    tip.hidden = true;
    if (path) path.classList.remove("on");
    if (chart) chart.classList.remove("busy");
    if (pin) pin.remove();
    chart = path = pin = null;
  };

  const describe = (x, y) => {
    if (path.dataset.text) return path.dataset.text;
    const { x0, x1, y0, y1, unit, block } = chart.dataset;
    const step = Math.round(Number(x0) + (x / 1000) * (x1 - x0));
    const value = Number(y1) - (y / 400) * (y1 - y0);
    const steps = Number(block) > 1 ? `steps ${step} to ${step + Number(block) - 1}` : `step ${step}`;
    return `${steps}: ${shown(value, unit)}`;
  };

  const show = (newChart, newPath, newIndex) => {
    if (path !== newPath) hide();
    [chart, path, index] = [newChart, newPath, newIndex];
    const [x, y] = points(path)[index];
    const plot = chart.querySelector(".plot");
    path.classList.add("on");
    chart.classList.add("busy");
    if (!pin) {
      pin = document.createElement("i");
      pin.className = "pin";
      plot.append(pin);
    }
    pin.style.left = x / 10 + "%";
    pin.style.top = y / 4 + "%";
    const name = document.createElement("b");
    name.textContent = path.dataset.label;
    tip.replaceChildren(name, describe(x, y));
    tip.hidden = false;
    const box = plot.getBoundingClientRect();
    const left = box.left + (x / 1000) * box.width - tip.offsetWidth / 2;
    const width = document.documentElement.clientWidth;
    tip.style.left = scrollX + Math.min(Math.max(8, left), width - tip.offsetWidth - 8) + "px";
    const above = box.top + (y / 400) * box.height - tip.offsetHeight - 14;
    tip.style.top = scrollY + (above > 4 ? above : above + tip.offsetHeight + 30) + "px";
  };

  const nearest = (element, event) => {
    const box = element.querySelector(".plot").getBoundingClientRect();
    let best = null, least = 60 * 60;
    for (const line of lines(element)) {
      points(line).forEach(([x, y], place) => {
        const dx = box.left + (x / 1000) * box.width - event.clientX;
        const dy = box.top + (y / 400) * box.height - event.clientY;
        const distance = dx * dx + dy * dy;
        if (distance < least) { least = distance; best = [line, place]; }
      });
    }
    return best;
  };

  const move = (element, key) => {
    const all = lines(element);
    if (!all.length) return false;
    if (chart !== element || !path) {
      show(element, all[0], points(all[0]).length - 1);
      return true;
    }
    const place = all.indexOf(path);
    const x = points(path)[index][0];
    const last = points(path).length - 1;
    if (key === "ArrowDown" || key === "ArrowUp") {
      const next = all[(place + (key === "ArrowDown" ? 1 : all.length - 1)) % all.length];
      let near = 0;
      points(next).forEach((point, other) => {
        if (Math.abs(point[0] - x) < Math.abs(points(next)[near][0] - x)) near = other;
      });
      show(element, next, near);
    } else if (key === "ArrowLeft") show(element, path, Math.max(0, index - 1));
    else if (key === "ArrowRight") show(element, path, Math.min(last, index + 1));
    else if (key === "Home") show(element, path, 0);
    else if (key === "End") show(element, path, last);
    else return false;
    return true;
  };

  for (const element of document.querySelectorAll(".chart")) {
    const plot = element.querySelector(".plot");
    const follow = (event) => {
      const found = nearest(element, event);
      if (found) show(element, found[0], found[1]); else hide();
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
    plot.addEventListener("pointerleave", hide);
    element.addEventListener("focus", () => { if (element.matches(":focus-visible")) move(element, ""); });
    element.addEventListener("blur", hide);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      else if (!event.ctrlKey && !event.metaKey && !event.altKey && move(element, event.key)) event.preventDefault();
    });
  }

  const chips = [...document.querySelectorAll(".legend button")];
  let pinned = null;
  const focusOn = (key) => {
    if (key === null) delete document.documentElement.dataset.focus;
    else document.documentElement.dataset.focus = key;
  };
  for (const chip of chips) {
    chip.addEventListener("pointerenter", () => focusOn(chip.dataset.k));
    chip.addEventListener("pointerleave", () => focusOn(pinned));
    chip.addEventListener("click", () => {
      pinned = pinned === chip.dataset.k ? null : chip.dataset.k;
      for (const other of chips) other.setAttribute("aria-pressed", String(other.dataset.k === pinned));
      focusOn(pinned);
    });
  }
})();
