// Where the reader is, how they move, and the page's address, which always says both.
const byId = (id) => document.getElementById(id);
const tip = byId("tip");

const start = (data) => {
  const places = flattened(data);
  const scales = data.kind === "completions" ? scalesOf(places) : {};
  const state = { at: 0, show: "all", find: "", colour: scales.entropy === null ? "surprisal" : "entropy" };
  let matches = places, drawn = null, missing = "";

  const here = () => places[state.at];
  const isRecorded = (group) => group.rows.some((row) => row.pieces);
  const groupRows = () => here().group.rows.map((row) => places[row.at]);
  const matchesHere = () => new Set(matches.filter((place) => place.group === here().group).map((place) => place.row.at));

  // ---- the page's address
  const address = () => {
    const { run, group, row } = here();
    const words = new URLSearchParams({ condition: run.condition });
    if (run.seed !== null) words.set("seed", run.seed);
    if (data.levels[0]) words.set("step", group.step);
    words.set("problem", group.problem);
    words.set("group", group.group);
    words.set("row", row.n);
    if (state.show !== "all") words.set("show", state.show);
    if (state.find) words.set("find", state.find);
    if (data.kind === "completions") words.set("colour", state.colour);
    return "#" + words;
  };
  const follow = () => {
    const words = new URLSearchParams(location.hash.slice(1));
    const colour = words.get("colour"), show = words.get("show");
    if (colour in COLOURS && !disabled(colour)) state.colour = colour;
    state.show = data.filters.some((one) => one.tag === show) ? show : "all";
    state.find = words.get("find") || "";
    matches = matching(places, state.show, state.find);
    missing = "";
    if (!words.has("condition")) {
      const first = matches.find((place) => place.row.pieces) || matches[0];
      if (first) state.at = first.row.at;
      return;
    }
    const told = ["condition", "seed", "step", "problem", "group", "row"].filter((key) => words.has(key));
    const has = ({ run, group, row }) => ({ condition: run.condition, seed: run.seed, step: group.step,
      problem: group.problem, group: group.group, row: row.n });
    let best = 0, found = 0;
    places.forEach((place) => {
      const values = has(place);
      let depth = 0;
      while (depth < told.length && String(values[told[depth]]) === words.get(told[depth])) depth += 1;
      if (depth > best) [best, found] = [depth, place.row.at];
    });
    if (best < told.length) missing = `The address names a ${told[best]} that is not on this page; this is the nearest.`;
    state.at = words.has("row") ? found : closest(places[found], words.has("problem"));
  };
  // without a row in the address: one that matches, of a recorded group where no problem is named
  const closest = ({ run, group, row }, named) => {
    const same = matches.filter((place) => named ? place.group === group : place.run === run && place.group.step === group.step);
    const best = same.find((place) => !named && place.row.pieces) || same.find((place) => place.group === group) || same[0];
    return best ? best.row.at : row.at;
  };
  const disabled = (key) => key in scales && scales[key] === null;

  // ---- drawing
  const options = (select, values, current) => {
    select.replaceChildren(...values.map(([value, label]) => {
      const option = make("option", "", label);
      option.value = value;
      option.selected = String(value) === String(current);
      return option;
    }));
    select.disabled = values.length < 2;
  };
  const unique = (values) => [...new Set(values)];
  const fillSelects = () => {
    const { run, group } = here();
    const conditions = unique(data.runs.map((one) => one.condition));
    options(byId("condition"), conditions.map((one) => [one, oneLine(one)]), run.condition);
    const seeds = data.runs.filter((one) => one.condition === run.condition).map((one) => one.seed);
    options(byId("seed"), seeds.map((seed) => [seed, seed === null ? "–" : seed]), run.seed);
    byId("pick-condition").hidden = conditions.length < 2 && data.runs[0].seed === null;
    byId("pick-seed").hidden = data.runs.every((one) => one.seed === null);
    if (byId("step")) options(byId("step"), unique(run.groups.map((one) => one.step)).map((step) => [step, step]), group.step);
    const problems = run.groups.map((one, g) => [g, one]).filter(([, one]) => one.step === group.step);
    options(byId("problem"), problems.map(([g, one]) => [g, problemLabel(one)]), here().g);
  };
  const problemLabel = (group) => {
    if (data.kind !== "completions") return oneLine(group.problem, 40);
    const right = group.rows.filter((row) => row.tags.includes("correct")).length;
    const asked = group.prompt ? ` · ${oneLine(group.prompt, 26)}` : "";
    return `${isRecorded(group) ? "◆ " : ""}${oneLine(group.problem, 14)}${asked} · ${right}/${group.rows.length} correct`;
  };
  const CARDS = { completions: completionCard, snapshots: snapshotCard, puzzles: puzzleCard };
  const drawGroup = () => {
    if (drawn !== here().group) {
      drawn = here().group;
      byId("problem-panel").replaceChildren(...problemPanel(data, here().run, drawn));
      byId("cards").replaceChildren(...groupRows().map(({ group, row }) => CARDS[data.kind](group, row, data.facts)));
    }
    const kept = matchesHere();
    for (const element of byId("cards").children) {
      const row = places[Number(element.dataset.at)].row;
      element.hidden = !kept.has(row.at);
      element.toggleAttribute("aria-current", row.at === state.at);
      if (row.at === state.at) element.setAttribute("aria-current", "true");
      if (row.pieces) paint(element.querySelector(".text"), row, state.colour, scales);
    }
    highlight();
    return kept.size;
  };
  const draw = () => {
    hideTip();
    fillSelects();
    const kept = drawGroup();
    const noun = (data.levels[2] || data.levels[1]).toLowerCase();
    const place = matches.indexOf(here());
    const filtered = matches.length < places.length;
    byId("count").textContent = !matches.length ? `no ${noun} matches`
      : place < 0 ? `${matches.length} match elsewhere`
        : `${place + 1} of ${matches.length}${filtered ? " that match" : ""}`;
    byId("previous").disabled = byId("next").disabled = !matches.length;
    const hidden = here().group.rows.length - kept;
    const words = [missing];
    if (hidden) words.push(kept ? `${hidden} of this group ${hidden === 1 ? "is" : "are"} hidden by the filter.`
      : `Nothing in this group matches${matches.length ? "; “next” goes to one that does" : ""}.`);
    byId("told").textContent = words.filter(Boolean).join(" ");
    for (const input of document.querySelectorAll("input[name=show]")) input.checked = input.value === state.show;
    for (const input of document.querySelectorAll("input[name=colour]")) input.checked = input.value === state.colour;
    if (byId("find").value !== state.find) byId("find").value = state.find;
    if (data.kind === "completions") byId("legend").replaceChildren(...legendOf(state.colour, scales[state.colour]));
    history.replaceState(null, "", address());
  };
  const highlight = () => {
    if (!("highlights" in CSS)) return;
    CSS.highlights.delete("found");
    if (!state.find) return;
    const ranges = [];
    for (const box of document.querySelectorAll("#cards .card:not([hidden]) .text")) {
      const nodes = [];
      const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (!node.parentElement.classList.contains("sign")) nodes.push(node);
      }
      const text = nodes.map((node) => node.data).join("").toLowerCase(), wanted = state.find.toLowerCase();
      const locate = (offset) => {
        let k = 0;
        while (k < nodes.length - 1 && offset > nodes[k].length) { offset -= nodes[k].length; k += 1; }
        return [nodes[k], Math.min(offset, nodes[k].length)];
      };
      for (let from = text.indexOf(wanted); from >= 0 && ranges.length < 500; from = text.indexOf(wanted, from + wanted.length)) {
        const range = new Range();
        range.setStart(...locate(from));
        range.setEnd(...locate(from + wanted.length));
        ranges.push(range);
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  };

  // ---- moving
  const goto = (at, focus = false) => {
    state.at = at;
    missing = "";
    draw();
    const element = byId("cards").querySelector("[aria-current]");
    if (!element || element.hidden) return;
    if (focus) element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
  };
  const step = (by, focus) => {
    if (!matches.length) return;
    const after = matches.findIndex((place) => place.row.at > state.at);
    const before = matches.filter((place) => place.row.at < state.at).length - 1;
    const next = by > 0 ? (after < 0 ? 0 : after) : before < 0 ? matches.length - 1 : before;
    goto(matches[next].row.at, focus);
  };
  const firstOf = (group) => {
    const wanted = matches.find((place) => place.group === group);
    return wanted ? wanted.row.at : group.rows[0].at;
  };
  const move = (level, by, focus) => {
    const { run, group, g } = here();
    const open = matches.length < places.length ? new Set(matches.map((place) => place.group)) : null;
    const usable = (one) => !open || open.has(one);
    if (level === "problem") {
      let next = g + by;
      while (run.groups[next] && !usable(run.groups[next])) next += by;
      if (run.groups[next]) goto(firstOf(run.groups[next]), focus);
      return;
    }
    const steps = unique(run.groups.filter(usable).map((one) => one.step)).filter((one) => by * (one - group.step) > 0);
    if (steps.length) toStep(by > 0 ? steps[0] : steps[steps.length - 1], usable, focus);
  };
  // the same problem, or else a group with recorded tokens where the present one has them
  const likest = (groups, group) => groups.find((one) => one.problem === group.problem)
    || (isRecorded(group) && groups.find(isRecorded)) || groups.find((one) => one.group === group.group) || groups[0];
  const toStep = (wanted, usable = () => true, focus = false) => {
    const { run, group } = here();
    goto(firstOf(likest(run.groups.filter((one) => one.step === wanted && usable(one)), group)), focus);
  };
  const toRun = (run) => {
    const { group } = here();
    const gap = (one) => Math.abs(one.step - group.step);
    const nearest = Math.min(...run.groups.map(gap));
    goto(firstOf(likest(run.groups.filter((one) => gap(one) === nearest), group)));
  };
  const pick = {
    condition: (value) => {
      const same = data.runs.filter((one) => one.condition === value);
      toRun(same.find((one) => one.seed === here().run.seed) || same[0]);
    },
    seed: (value) => toRun(data.runs.find((one) => one.condition === here().run.condition && String(one.seed) === value)),
    step: (value) => toStep(here().run.groups.find((one) => String(one.step) === value).step),
    problem: (value) => goto(firstOf(here().run.groups[Number(value)])),
  };

  // ---- a token's values
  const hideTip = () => { tip.hidden = true; };
  const showTip = (span) => {
    const row = places[Number(span.closest(".card").dataset.at)].row;
    const t = Number(span.dataset.t);
    const title = make("b", "", `“${oneLine(row.pieces[t], 30)}” · token ${t + 1} of ${row.pieces.length}`);
    tip.replaceChildren(title, ...tokenFacts(row, t).flatMap((line) => [line, make("br", "")]));
    tip.hidden = false;
    const box = span.getClientRects()[0] || span.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    tip.style.left = scrollX + Math.max(8, Math.min(box.left, width - tip.offsetWidth - 8)) + "px";
    const above = box.top - tip.offsetHeight - 8;
    tip.style.top = scrollY + (above > 4 ? above : box.bottom + 8) + "px";
  };
  const readToken = (span) => {
    if (!span) return;
    span.tabIndex = -1;
    span.focus();
  };
  const cards = byId("cards");
  cards.addEventListener("pointerover", (event) => {
    const span = event.target.closest(".t");
    if (span) showTip(span); else hideTip();
  });
  cards.addEventListener("pointerleave", hideTip);
  cards.addEventListener("focusin", (event) => {
    if (event.target.classList.contains("t")) showTip(event.target); else hideTip();
  });
  cards.addEventListener("click", (event) => {
    const element = event.target.closest(".card");
    if (!element || String(getSelection())) return;
    state.at = Number(element.dataset.at);
    const span = event.target.closest(".t");
    draw();
    if (span) showTip(span);
  });

  // ---- keys and controls
  const typing = (element) => element.closest("input, select, textarea, summary, button, a");
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const target = event.target;
    if (event.key === "Escape") {
      hideTip();
      if (target.classList.contains("t")) target.closest(".card").focus({ preventScroll: true });
      return;
    }
    if (target.closest("input, select, textarea")) return;
    if (event.key === "Enter" && !typing(target) && !target.classList.contains("t")) {
      readToken(byId("cards").querySelector("[aria-current]:not([hidden]) .t"));
    } else if (by && target.classList.contains("t") && !event.shiftKey) {
      readToken(by > 0 ? target.nextElementSibling : target.previousElementSibling);
    } else if (by && event.shiftKey) {
      const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
      if (!sideways && !data.levels[0]) return;
      move(sideways ? "problem" : "step", by, true);
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(by, true);
    else return;
    event.preventDefault();
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  for (const key of Object.keys(pick)) {
    if (byId(key) && byId(key).tagName === "SELECT") byId(key).addEventListener("change", (event) => pick[key](event.target.value));
  }
  for (const button of document.querySelectorAll("[data-move]")) {
    button.addEventListener("click", () => move(button.dataset.move, Number(button.dataset.by)));
  }
  const ask = () => {
    matches = matching(places, state.show, state.find);
    if (matches.length && !matchesHere().size) state.at = (matches.find((place) => place.row.at > state.at) || matches[0]).row.at;
    else if (matches.length && !matches.includes(here())) state.at = [...matchesHere()][0];
    missing = "";
    draw();
  };
  byId("find").addEventListener("input", (event) => { state.find = event.target.value; ask(); });
  byId("controls").addEventListener("change", (event) => {
    if (event.target.name === "show") { state.show = event.target.value; ask(); }
    if (event.target.name === "colour") { state.colour = event.target.value; draw(); }
    if (event.target.id === "digits") document.body.classList.toggle("digits", event.target.checked);
  });
  for (const input of document.querySelectorAll("input[name=show]")) {
    const count = matching(places, input.value, "").length;
    input.parentElement.querySelector("small").textContent = count;
    input.disabled = !count;
  }
  for (const input of document.querySelectorAll("input[name=colour]")) {
    input.disabled = disabled(input.value) || (!data.facts.recorded && input.value !== "none");
  }
  if (data.kind === "completions" && !data.facts.recorded) state.colour = "none";
  if (data.kind === "puzzles") byId("legend").replaceChildren(...paletteLegend(data.facts));
  addEventListener("hashchange", () => { follow(); draw(); });
  follow();
  draw();
  document.body.dataset.ready = "yes";
};

unpacked().then(start).catch((error) => {
  byId("told").textContent = "DecompressionStream" in window ? `This page could not be unpacked: ${error.message}`
    : "This browser cannot unpack the page; it needs Chrome 80, Firefox 113, Safari 16.4 or newer.";
});
