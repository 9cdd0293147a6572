(() => {
  "use strict";
  const TOP = 8, FOOT = 38;
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const charts = new Map(); // mounted charts by their figure's id
  const known = {}; // data of figures by id, embedded or fetched
  let focus = null; // the one condition that is shown alone
  let active = null; // what the tooltip tells: { chart, run, at }

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  const plain = (value, digits) => {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1e7 || size < 1e-4) return value.toExponential(digits - 1).replace("-", "−");
    if (size >= 1000) return Math.round(value).toLocaleString("en").replace("-", "−");
    return String(Number(value.toPrecision(digits))).replace("-", "−");
  };
  const shown = (value, unit) => {
    if (unit === "rate") return (100 * value).toFixed(1).replace("-", "−") + "\u202f%";
    return unit ? plain(value, 3) + "\u202f" + unit : plain(value, 3);
  };

  // ---- data: one array of steps, and for every line an array as long; undefined is "not logged here"
  const spread = (steps) => (Array.isArray(steps) ? steps
    : Array.from({ length: steps.count }, (_, place) => steps.first + place * steps.by));
  const aligned = (line, values, steps, places) => {
    if (!line.x) return steps.map((_, place) => values[place]);
    const found = new Array(steps.length).fill(undefined);
    line.x.forEach((x, place) => { found[places.get(x)] = values[place]; });
    return found;
  };
  const lines = (data) => {
    const steps = spread(data.steps);
    const places = new Map(steps.map((step, place) => [step, place]));
    const found = [];
    for (const band of data.bands) {
      if (!band.low) continue;
      found.push({ kind: "low", of: band, y: aligned(band, band.low, steps, places) });
      found.push({ kind: "high", of: band, y: aligned(band, band.high, steps, places) });
    }
    for (const run of data.runs) found.push({ kind: "run", of: run, y: aligned(run, run.y, steps, places) });
    for (const band of data.bands) {
      const part = band.part ?? band.mean.length;
      const whole = band.mean.map((value, place) => (place < part ? value : null));
      found.push({ kind: "mean", of: band, y: aligned(band, whole, steps, places) });
      if (band.part === undefined) continue;
      const rest = band.mean.map((value, place) => (place >= part - 1 ? value : null));
      found.push({ kind: "part", of: band, y: aligned(band, rest, steps, places) });
    }
    return { steps, found };
  };

  // ---- drawing
  const faintness = (count) => Math.max(0.14, Math.min(0.4, 3.4 / Math.max(1, count)));
  const stroke = (chart, line) => () => {
    const hex = colour(`--c${line.of.k}`);
    if (focus !== null && line.of.c !== focus) return faded(hex, 0.07);
    const busy = active && active.chart === chart;
    if (line.kind === "run") return faded(hex, busy ? 0.16 : faintness(chart.data.runs.length));
    return busy ? faded(hex, 0.45) : hex;
  };
  const lone = (u, index) => { // a value without neighbours is a dot
    const values = u.data[index];
    const [from, to] = [u.scales.x.min, u.scales.x.max];
    const few = u.data[0].length <= 12;
    return values.flatMap((value, place) => {
      if (value == null || u.data[0][place] < from || u.data[0][place] > to) return [];
      return few || (values[place - 1] == null && values[place + 1] == null) ? [place] : [];
    });
  };
  const series = (chart) => chart.lines.map((line) => {
    const band = line.kind === "low" || line.kind === "high";
    return {
      stroke: band ? "transparent" : stroke(chart, line),
      width: band ? 0 : line.kind === "run" ? 1 : 2.4,
      dash: line.kind === "part" ? [2, 4] : line.of.dash,
      spanGaps: false,
      points: { show: !band, size: line.kind === "run" ? 3 : 5, filter: band ? undefined : lone,
        stroke: band ? undefined : stroke(chart, line), fill: band ? undefined : stroke(chart, line) },
    };
  });
  const bands = (chart) => chart.lines.flatMap((line, place) => (line.kind !== "low" ? [] : [{
    series: [place + 2, place + 1],
    fill: () => faded(colour(`--c${line.of.k}`), focus !== null && line.of.c !== focus ? 0.03 : 0.15),
  }]));
  const axes = (chart) => {
    const ink = () => colour("--muted");
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const grid = { stroke: () => colour("--hair"), width: 1 };
    const unit = chart.data.unit;
    return [
      { stroke: ink, font, grid: { show: false }, ticks: { show: false }, size: FOOT - 14, gap: 4, space: 56,
        label: chart.data.title, labelSize: 14, labelGap: 0, labelFont: font,
        values: (u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? plain(tick, 7) : "")) },
      { stroke: ink, font, grid, ticks: { show: false }, gap: 8, space: 36,
        size: (u, values) => 18 + 6.8 * Math.max(3, ...(values ?? []).map((text) => text.length)),
        values: (u, ticks) => ticks.map((tick) => (unit === "rate" ? plain(100 * tick, 6) + "\u202f%" : plain(tick, 6))) },
    ];
  };
  const zoomed = (chart) => chart.window[0] > chart.data.x[0] || chart.window[1] < chart.data.x[1];
  const options = (chart, width) => ({
    width,
    height: chart.height + TOP + FOOT,
    padding: [TOP, 8, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: false, range: (u, low, high) => { // asked before y's range is
        chart.window = !chart.u || low == null ? chart.data.x : [low, high];
        return chart.window;
      } },
      y: { range: (u, low, high) => (!zoomed(chart) || low == null ? chart.data.y : uPlot.rangeNum(low, high, 0.08, true)) },
    },
    series: [{}, ...series(chart)],
    bands: bands(chart),
    axes: axes(chart),
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: true, y: false, dist: 8 },
      sync: { key: chart.data.title, setSeries: false, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      bind: { dblclick: () => () => { chart.u.setScale("x", { min: chart.data.x[0], max: chart.data.x[1] }); return null; } },
    },
    hooks: { draw: [(u) => { overlay(chart, u); place(chart, u); }] },
  });

  const overlay = (chart, u) => { // the run that the tooltip tells of, over all others
    if (!active || active.chart !== chart) return;
    const { ctx } = u;
    const values = u.data[active.run + 1];
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.beginPath();
    let open = false;
    values.forEach((value, index) => {
      if (value === undefined) return;
      if (value === null) { open = false; return; }
      const [x, y] = [u.valToPos(u.data[0][index], "x", true), u.valToPos(value, "y", true)];
      if (open) ctx.lineTo(x, y); else ctx.moveTo(x, y);
      open = true;
    });
    ctx.strokeStyle = colour("--ink");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.stroke();
    ctx.restore();
  };

  const place = (chart, u) => { // crosses where runs failed, rings where gates opened, the pin
    const spots = [];
    const spot = (css, x, y, words, text) => {
      if (x < u.scales.x.min || x > u.scales.x.max) return;
      const element = document.createElement("i");
      element.className = css;
      element.style.left = u.valToPos(x, "x") + "px";
      element.style.top = u.valToPos(y, "y") + "px";
      if (words) element.title = words;
      element.textContent = text ?? "";
      spots.push(element);
    };
    chart.lines.forEach((line) => {
      if (line.kind !== "run" || !line.of.failed) return;
      const last = line.y.findLastIndex((value) => value != null);
      if (last >= 0) spot(`stop k${line.of.k}`, u.data[0][last], line.y[last], `${line.of.c}, seed ${line.of.seed}: failed here`, "×");
    });
    for (const mark of chart.data.marks) spot(`gate k${mark.k}`, mark.x, mark.y, mark.words);
    if (active && active.chart === chart) spot("pin", u.data[0][active.at], u.data[active.run + 1][active.at]);
    chart.marks.replaceChildren(...spots);
  };

  // ---- mounting
  const mount = (figure) => {
    const chart = charts.get(figure.id) ?? { id: figure.id };
    Object.assign(chart, { figure, element: figure.querySelector(".chart"), data: known[figure.id] });
    const plot = chart.element.querySelector(".plot");
    chart.element.classList.add("on");
    chart.element.classList.toggle("wide", !chart.data.ends);
    chart.height = figure.classList.contains("tall") ? (innerWidth <= 720 ? 250 : 340) : innerWidth <= 720 ? 180 : 190;
    const { steps, found } = lines(chart.data);
    chart.lines = found;
    chart.first = found.findIndex((line) => line.kind === "run");
    chart.runs = found.flatMap((line, index) => (line.kind === "run" && line.y.some((value) => value != null) ? [index] : []));
    chart.u?.destroy();
    chart.u = null;
    chart.window = chart.data.x;
    chart.marks = document.createElement("div");
    chart.u = new uPlot(options(chart, plot.clientWidth), [steps, ...found.map((line) => line.y)], plot);
    chart.u.over.append(chart.marks);
    chart.shape = shape(chart.data);
    charts.set(figure.id, chart);
    words(chart);
    listen(chart);
  };
  const shape = (data) => JSON.stringify([data.unit, data.title, data.bands.map((band) => [band.c, band.k, band.dash, !band.low, band.part === undefined]),
    data.runs.map((run) => [run.c, run.seed])]);
  const words = (chart) => {
    const ends = chart.element.querySelector(".ends");
    if (ends.innerHTML !== chart.data.ends) ends.innerHTML = chart.data.ends;
    chart.figure.querySelector("[data-part=caption]").textContent = chart.data.caption;
  };
  const update = (chart) => { // new data in the old frame, or a new frame
    const before = zoomed(chart);
    chart.data = known[chart.id];
    if (shape(chart.data) !== chart.shape) { mount(chart.figure); return; }
    const wide = before && { min: chart.window[0], max: chart.window[1] };
    const { steps, found } = lines(chart.data);
    found.forEach((line, index) => Object.assign(chart.lines[index], line));
    chart.runs = found.flatMap((line, index) => (line.kind === "run" && line.y.some((value) => value != null) ? [index] : []));
    if (active && active.chart === chart && found[active.run]?.y[active.at] == null) hide();
    chart.u.setData([steps, ...found.map((line) => line.y)], false);
    chart.u.setScale("x", wide ?? { min: chart.data.x[0], max: chart.data.x[1] });
    words(chart);
  };

  // ---- reading single runs
  const hide = () => {
    tip.hidden = true;
    const was = active;
    active = null;
    if (was?.chart) was.chart.u.redraw(false);
    if (was?.path) { was.path.classList.remove("on"); was.element.classList.remove("busy"); was.pin.remove(); }
  };
  const tell = (label, text, x, top) => {
    const name = document.createElement("b");
    name.textContent = label;
    tip.replaceChildren(name, text);
    tip.hidden = false;
    const width = root.clientWidth;
    tip.style.left = scrollX + Math.min(Math.max(8, x - tip.offsetWidth / 2), width - tip.offsetWidth - 8) + "px";
    const above = top - tip.offsetHeight - 14;
    tip.style.top = scrollY + (above > 4 ? above : top + 16) + "px";
  };
  const show = (chart, run, at) => {
    if (active && active.chart !== chart) hide();
    active = { chart, run, at };
    const { u, data } = chart;
    const step = u.data[0][at];
    const value = u.data[run + 1][at];
    const { of } = chart.lines[run];
    u.redraw(false);
    const box = u.over.getBoundingClientRect();
    const steps = data.block > 1 ? `steps ${step} to ${step + data.block - 1}` : `step ${step}`;
    tell(`${of.c} · seed ${of.seed}${of.failed ? " · failed" : ""}`, `${steps}: ${shown(value, data.unit)}`,
      box.left + u.valToPos(step, "x"), box.top + u.valToPos(value, "y"));
  };
  const nearest = (chart, event) => {
    const { u } = chart;
    const box = u.over.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const middle = u.posToIdx(x);
    const reach = Math.max(2, Math.ceil(u.posToIdx(x + 30) - middle));
    let best = null, least = 60 * 60;
    for (const run of chart.runs) {
      if (focus !== null && chart.lines[run].of.c !== focus) continue;
      for (let at = Math.max(0, middle - reach); at <= Math.min(u.data[0].length - 1, middle + reach); at += 1) {
        const value = u.data[run + 1][at];
        if (value == null) continue;
        const dx = u.valToPos(u.data[0][at], "x") - x;
        const dy = u.valToPos(value, "y") - y;
        const distance = dx * dx + dy * dy;
        if (distance < least) { least = distance; best = [run, at]; }
      }
    }
    return best;
  };
  const beside = (values, at, by) => {
    for (let place = at + by; place >= 0 && place < values.length; place += by) if (values[place] != null) return place;
    return at;
  };
  const move = (chart, key) => {
    if (!chart.runs.length) return false;
    const values = (run) => chart.u.data[run + 1];
    const last = (run) => values(run).findLastIndex((value) => value != null);
    if (key === "0" || key === "+" || key === "-" || key === "=") { zoom(chart, key); return true; }
    if (!active || active.chart !== chart) { show(chart, chart.runs[0], last(chart.runs[0])); return true; }
    const { run, at } = active;
    const place = chart.runs.indexOf(run);
    if (key === "ArrowDown" || key === "ArrowUp") {
      const next = chart.runs[(place + (key === "ArrowDown" ? 1 : chart.runs.length - 1)) % chart.runs.length];
      const near = values(next)[at] != null ? at : Math.min(at, last(next));
      show(chart, next, values(next)[near] != null ? near : beside(values(next), near, -1));
    } else if (key === "ArrowLeft") show(chart, run, beside(values(run), at, -1));
    else if (key === "ArrowRight") show(chart, run, beside(values(run), at, 1));
    else if (key === "Home") show(chart, run, beside(values(run), -1, 1));
    else if (key === "End") show(chart, run, last(run));
    else return false;
    return true;
  };
  const zoom = (chart, key) => {
    const [first, end] = chart.data.x;
    const { min, max } = chart.u.scales.x;
    const middle = active && active.chart === chart ? chart.u.data[0][active.at] : (min + max) / 2;
    const half = ((max - min) / 2) * (key === "-" ? 2 : 0.5);
    if (key === "0") chart.u.setScale("x", { min: first, max: end });
    else chart.u.setScale("x", { min: Math.max(first, middle - half), max: Math.min(end, middle + half) });
  };
  const save = (chart) => {
    const { steps, found } = lines(chart.data);
    const rows = [["condition", "seed", "step", "value"]];
    for (const line of found) {
      if (line.kind !== "run") continue;
      line.y.forEach((value, place) => { if (value != null) rows.push([`"${line.of.c.replaceAll('"', '""')}"`, line.of.seed, steps[place], value]); });
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([rows.map((row) => row.join(",")).join("\n") + "\n"], { type: "text/csv" }));
    link.download = chart.id.replace("fig-", "") + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const listen = (chart) => {
    const follow = (event) => {
      const found = nearest(chart, event);
      if (!found) { if (active) hide(); } else if (!active || active.chart !== chart || active.run !== found[0] || active.at !== found[1]) show(chart, ...found);
    };
    chart.u.over.addEventListener("pointermove", follow);
    chart.u.over.addEventListener("pointerdown", follow);
    chart.u.over.addEventListener("pointerleave", hide);
    if (chart.element.dataset.listens) return;
    chart.element.dataset.listens = "yes";
    chart.element.addEventListener("focus", () => { if (chart.element.matches(":focus-visible")) move(charts.get(chart.id), ""); });
    keys(chart.element, (key) => move(charts.get(chart.id), key));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = "CSV";
    button.setAttribute("aria-label", `Save the values of this figure as CSV: ${chart.figure.querySelector("h3").textContent}`);
    button.addEventListener("click", () => save(charts.get(chart.id)));
    chart.figure.querySelector("figcaption").append(button);
  };
  const keys = (element, act) => {
    element.addEventListener("blur", hide);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      else if (!event.ctrlKey && !event.metaKey && !event.altKey && act(event.key)) event.preventDefault();
    });
  };

  // ---- the before-and-after picture: lines of two points that stay SVG
  const slope = (element) => {
    const all = [...element.querySelectorAll("path.s")];
    const ends = (path) => [...path.getAttribute("d").matchAll(/(-?[\d.]+),(-?[\d.]+)/g)].map((found) => [Number(found[1]), Number(found[2])]);
    const plot = element.querySelector(".plot");
    const point = (path) => {
      const [x, y] = ends(path).at(-1);
      if (active?.path !== path) hide();
      const pin = active?.pin ?? document.createElement("i");
      active = { path, element, pin };
      path.classList.add("on");
      element.classList.add("busy");
      pin.className = "pin";
      Object.assign(pin.style, { left: x / 10 + "%", top: y / 4 + "%" });
      plot.append(pin);
      const box = plot.getBoundingClientRect();
      tell(path.dataset.label, path.dataset.text, box.left + (x / 1000) * box.width, box.top + (y / 400) * box.height);
    };
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const [x, y] = [((event.clientX - box.left) / box.width) * 1000, ((event.clientY - box.top) / box.height) * 400];
      let best = null, least = 60;
      for (const path of all) {
        const [from, to] = [ends(path)[0], ends(path).at(-1)];
        if (x < from[0] - 20 || x > to[0] + 20) continue;
        const share = to[0] === from[0] ? 0 : Math.min(1, Math.max(0, (x - from[0]) / (to[0] - from[0])));
        const distance = Math.abs(from[1] + share * (to[1] - from[1]) - y);
        if (distance < least) { least = distance; best = path; }
      }
      if (best) point(best); else hide();
    });
    plot.addEventListener("pointerleave", hide);
    keys(element, (key) => {
      if (key !== "ArrowDown" && key !== "ArrowUp") return false;
      const place = all.indexOf(active?.path);
      point(all[(place + (key === "ArrowDown" ? 1 : all.length - 1) + (place < 0 && key === "ArrowUp" ? 1 : 0)) % all.length]);
      return true;
    });
  };

  // ---- paper: the still picture gets the single seeds, and their words
  const print = (figure) => {
    const svg = figure.querySelector(".plot > svg");
    const data = known[figure.id];
    if (!svg || !data || svg.querySelector("path.s")) return;
    const { steps, found } = lines(data);
    const at = (value, [low, high], size) => ((value - low) / (high - low)) * size;
    for (const line of found.filter((each) => each.kind === "run")) {
      let d = "", open = false;
      line.y.forEach((value, place) => {
        if (value === null) open = false;
        if (value == null) return;
        d += `${open ? "L" : "M"}${at(steps[place], data.x, 1000).toFixed(1)},${(400 - at(value, data.y, 400)).toFixed(1)}`;
        open = true;
      });
      const path = svg.querySelector("path").cloneNode();
      path.setAttribute("class", `s k${line.of.k}`);
      path.setAttribute("d", d);
      svg.querySelector("path.m")?.before(path);
    }
    figure.querySelector("[data-part=caption]").textContent = data.caption;
  };
  addEventListener("beforeprint", () => { for (const figure of document.querySelectorAll("figure.fig:not(.slope)")) print(figure); });

  // ---- the page
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || !known[entry.target.id]) continue;
      seen.unobserve(entry.target);
      mount(entry.target);
    }
  }, { rootMargin: "500px" });
  const mountAll = (within) => {
    for (const figure of within.querySelectorAll("figure.fig")) {
      const script = figure.querySelector('script[type="application/json"]');
      if (script) known[figure.id] = JSON.parse(script.textContent);
      if (figure.classList.contains("slope")) slope(figure.querySelector(".chart"));
      else seen.observe(figure);
    }
    for (const chip of within.querySelectorAll(".legend button")) chipped(chip);
  };
  const redraw = () => { for (const chart of charts.values()) chart.u.redraw(false); };
  let pinned = null;
  const focusOn = (condition) => {
    if (focus === condition) return;
    focus = condition;
    if (focus === null) delete root.dataset.focus; else root.dataset.focus = focus;
    redraw();
    for (const line of document.querySelectorAll("path[data-c]")) line.classList.toggle("dim", focus !== null && line.dataset.c !== focus);
  };
  const chipped = (chip) => {
    chip.setAttribute("aria-pressed", String(chip.dataset.c === pinned));
    chip.addEventListener("pointerenter", () => focusOn(chip.dataset.c));
    chip.addEventListener("pointerleave", () => focusOn(pinned));
    chip.addEventListener("click", () => {
      pinned = pinned === chip.dataset.c ? null : chip.dataset.c;
      for (const other of document.querySelectorAll(".legend button")) other.setAttribute("aria-pressed", String(other.dataset.c === pinned));
      focusOn(pinned);
    });
  };
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      hide();
      for (const chart of charts.values()) if (chart.element.isConnected) chart.u.setSize({ width: chart.element.querySelector(".plot").clientWidth, height: chart.height + TOP + FOOT });
    }, 80);
  });
  document.addEventListener("cupel:theme", redraw);
  document.addEventListener("cupel:parts", (event) => { // pieces of the page were replaced
    for (const [id, chart] of charts) if (!chart.element.isConnected) { if (active?.chart === chart) hide(); chart.u.destroy(); charts.delete(id); }
    mountAll(event.detail);
  });
  document.addEventListener("cupel:data", (event) => { // figures have new numbers
    for (const [id, data] of Object.entries(event.detail)) {
      known[id] = data;
      const chart = charts.get(id);
      const figure = document.getElementById(id);
      if (chart && chart.element.isConnected) update(chart);
      else if (figure) { seen.unobserve(figure); seen.observe(figure); }
    }
  });
  mountAll(document);
})();
