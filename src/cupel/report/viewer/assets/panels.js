// One card a row: a completion with its grade, a snapshot with its labels, a test input with its grids.
const SVG = "http://www.w3.org/2000/svg";
const OUTCOMES = { correct: "✓ correct", wrong: "✗ wrong", ungradable: "? ungradable" };

const card = (row, title, badges, ...content) => {
  const heading = make("h3", "", title, ...badges);
  heading.id = "row-" + row.at;
  const element = make("article", "card " + row.tags.join(" "), heading, ...content);
  element.tabIndex = -1;
  element.setAttribute("aria-labelledby", heading.id);
  element.dataset.at = row.at;
  return element;
};

const completionCard = (group, row) => {
  const outcome = row.tags[0];
  const badges = [make("span", "badge " + outcome, OUTCOMES[outcome])];
  if (row.tags.includes("truncated")) badges.push(make("span", "badge cut", "✂ truncated"));
  const facts = make("p", "facts");
  const say = (label, value) => facts.append(make("span", "", label + " ", inert(make("bdi", ""), String(value))));
  if (row.tokens !== undefined) say("tokens", row.tokens);
  if (row.reward !== undefined) say("reward", number(row.reward));
  if (row.before !== undefined) say("advantage", signed(row.before));
  if (row.found !== undefined) say("answer found", row.found);
  if (row.cause !== undefined) say("not gradable:", row.cause);
  if (row.untrained) facts.append(make("span", "", "not part of the update"));
  return card(row, `Completion ${row.n}`, badges, facts, tokenText(row));
};

const interval = (one) => one.lo === undefined || one.lo === null ? ""
  : ` [${number(one.lo)}, ${number(one.hi)}]` + (one.n ? `, n = ${one.n}` : ", exact");

const table = (caption, head, rows) => {
  const element = make("table", "", make("caption", "", caption));
  const titles = head.map((text) => { const cell = make("th", "", text); cell.scope = "col"; return cell; });
  element.append(make("thead", "", make("tr", "", ...titles)));
  element.append(make("tbody", "", ...rows.map((cells) => make("tr", "", ...cells.map((cell) => {
    const td = make("td", "");
    if (typeof cell === "string") inert(td, cell); else td.append(cell);
    return td;
  })))));
  return element;
};

const share = (p) => {
  if (p === null) return "–";
  const bar = make("i", "bar");
  bar.style.width = `${Math.round(60 * p)}px`;
  return make("span", "", bar, " " + number(p));
};

const snapshotCard = (group, row) => {
  const text = inert(make("div", "text"), row.text);
  text.dir = "auto";
  const actions = row.actions.map((one) =>
    [one.name, share(one.p), [one.done ? "the student did this" : "", one.taught ? "the teacher's advice" : ""].filter(Boolean).join("; ")]);
  const measures = row.measures.map((one) => [one.name, number(one.value) + interval(one)]);
  const gains = row.gains.map((one) => [one.format + (one.best ? " (best, net)" : ""), number(one.p),
    signed(one.raw.value) + interval(one.raw), signed(one.net.value) + interval(one.net)]);
  const facts = make("dl", "kv");
  for (const [name, value] of row.facts) facts.append(make("dt", "", name), inert(make("dd", ""), value));
  const parts = [facts, text];
  if (row.hint) parts.push(make("p", "hint", make("b", "", "Hint: "), inert(make("bdi", ""), row.hint)));
  parts.push(table("Actions", ["action", "probability", ""], actions));
  if (measures.length) parts.push(table("Uncertainty and leverage", ["measure", "value, 95 % interval"], measures));
  if (gains.length) parts.push(table("Patch gains: what a note brings", ["format", "success", "raw gain", "net gain"], gains));
  return card(row, "Snapshot", [make("span", "badge", row.quadrant)], ...parts);
};

const drawing = (word, facts, label) => {
  const rows = word ? word.split("|") : [];
  const picture = document.createElementNS(SVG, "svg");
  const [height, width] = [Math.max(1, rows.length), Math.max(1, rows.length ? rows[0].length : 1)];
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.setAttribute("width", width * 14);
  picture.setAttribute("height", height * 14);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", rows.length ? `${label}, ${height} by ${width}` : `${label}, empty`);
  rows.forEach((line, y) => [...line].forEach((digit, x) => {
    const cell = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x, y, width: 1, height: 1 })) cell.setAttribute(name, value);
    cell.style.fill = facts.palette[Number(digit)];
    const text = document.createElementNS(SVG, "text");
    text.setAttribute("x", x + 0.5);
    text.setAttribute("y", y + 0.72);
    text.style.fill = facts.light.includes(Number(digit)) ? "#fff" : "#000";
    text.textContent = digit;
    picture.append(cell, text);
  }));
  return picture;
};

const figure = (title, note, word, facts) => {
  const caption = make("figcaption", "", make("b", "", title));
  if (note) caption.append(make("br", ""), note);
  const missing = word === null ? make("small", "", title === "target" ? "not known" : "none") : null;
  return make("figure", "", caption, missing || drawing(word, facts, title));
};

const puzzleCard = (group, row, facts) => {
  const grids = row.grids.map((one) => figure(one.title, one.note, one.grid, facts));
  return card(row, `Test input ${row.n}`, [], make("div", "grids", ...grids));
};

const demonstrations = (group, facts) => make("div", "grids", ...group.demos.map(([input, output], place) =>
  make("div", "demo", figure(`demonstration ${place + 1}`, "", input, facts),
    make("span", "", "→"), figure("output", "", output, facts))));

const paletteLegend = (facts) => {
  const parts = facts.palette.map((colour, digit) => {
    const one = swatch("", `${digit} ${facts.names[digit]}`);
    one.firstChild.style.background = colour;
    return one;
  });
  return [make("div", "swatches", ...parts), make("p", "", facts.note)];
};

const named = (label, text) => {
  const box = inert(make("bdi", "text"), text);
  box.dir = "auto";
  return make("div", "named", make("h3", "", label), box);
};

const problemPanel = (data, run, group) => {
  const parts = [];
  const titled = inert(make("bdi", ""), group.problem);
  if (data.kind === "completions") {
    const right = group.rows.filter((row) => row.tags.includes("correct")).length;
    parts.push(make("h2", "", titled, make("small", "", ` ${right} of ${group.rows.length} correct`)));
  } else parts.push(make("h2", "", titled, make("small", "", group.standing ? " " + group.standing : "")));
  if (group.prompt) parts.push(named(data.kind === "snapshots" ? "Instruction" : "Prompt", group.prompt));
  if (group.answer !== undefined) parts.push(named("Reference answer", group.answer));
  if (group.demos) parts.push(demonstrations(group, data.facts));
  if (data.kind === "completions" && !group.rows.some((row) => row.pieces)) {
    parts.push(make("p", "empty", data.facts.recorded
      ? "The tokens of this group were not recorded, so its texts are plain. ◆ marks those that were; token_log_every and token_log_groups say how many."
      : "This run recorded no values of single tokens, so its texts are plain: token_log_every = 0, or it is older than that record."));
  } else if (data.kind === "completions") {
    parts.push(make("p", "lede", group.uncertainty
      ? `Credit of this run was shaped by ${group.uncertainty.replace("_", " ")}.`
      : "This run shapes nothing: every token of a completion has its advantage."));
  }
  return parts;
};
