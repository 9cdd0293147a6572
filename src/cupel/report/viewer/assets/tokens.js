// Tokens as coloured spans: one value a token, eight steps of colour, and a legend with its numbers.
// Uncertainty is mostly small, so its steps grow with the square: the low values can be told apart.
const COLOURS = {
  entropy: { name: "entropy of the next-token distribution, nats", of: (row, t) => row.entropies && row.entropies[t] },
  surprisal: { name: "surprisal, −log p of the sampled token, nats", of: (row, t) => row.logprobs && -row.logprobs[t] },
  before: { name: "advantage before shaping", both: true, of: (row) => row.before },
  after: { name: "advantage after shaping", both: true, of: (row, t) => row.advantages && row.advantages[t] },
  ratio: {
    name: "share of the advantage that shaping gave a token: after ÷ before, minus 1",
    both: true,
    of: (row, t) => row.advantages && row.before ? row.advantages[t] / row.before - 1 : null,
  },
  planning: { name: "planning tokens", of: (row, t) => row.planning && row.planning[t] },
  none: { name: "", of: () => null },
};

const scalesOf = (places) => {
  const values = Object.fromEntries(Object.keys(COLOURS).map((key) => [key, []]));
  for (const { row } of places) {
    if (!row.pieces) continue;
    for (let t = 0; t < row.pieces.length; t += 1) {
      for (const key of ["entropy", "surprisal", "before", "after", "ratio"]) {
        const value = COLOURS[key].of(row, t);
        if (typeof value === "number") values[key].push(Math.abs(value));
      }
    }
  }
  const advantage = rounded(quantile([...values.before, ...values.after]) || 0);
  return {
    entropy: values.entropy.length ? rounded(quantile(values.entropy)) : null,
    surprisal: values.surprisal.length ? rounded(quantile(values.surprisal)) : null,
    before: advantage, after: advantage,
    ratio: rounded(quantile(values.ratio) || 0),
  };
};

const levelClass = (key, value, top) => {
  if (typeof value !== "number" || key === "none") return "";
  if (key === "planning") return value ? "on" : "";
  if (!COLOURS[key].both) return "u" + Math.min(8, Math.floor(8 * Math.sqrt(Math.max(0, value) / top)));
  const level = Math.min(4, Math.ceil((4 * Math.abs(value)) / top - 1e-9));
  return level ? (value > 0 ? "p" : "m") + level : "";
};

const paint = (box, row, key, scales) => {
  [...box.children].forEach((span, t) => {
    const planned = row.planning && row.planning[t] ? " plan" : "";
    span.className = "t " + levelClass(key, COLOURS[key].of(row, t), scales[key]) + planned;
  });
};

const tokenText = (row) => {
  const box = make("div", "text");
  box.dir = "auto";
  if (!row.pieces) return inert(box, row.text || "");
  row.pieces.forEach((piece, t) => {
    const span = make("span", "t");
    span.dataset.t = t;
    if (piece) inert(span, piece);
    else span.append(signOf(0, t === row.pieces.length - 1 ? "end" : "·"));
    if (!piece) span.firstChild.title = "adds no text";
    box.append(span);
  });
  return box;
};

const tokenFacts = (row, t) => {
  const lines = [];
  if (row.entropies) lines.push(`entropy ${number(row.entropies[t])} nats`);
  if (row.logprobs) {
    lines.push(`surprisal ${number(-row.logprobs[t])} nats, p = ${number(Math.exp(row.logprobs[t]))}`);
  }
  if (row.advantages) {
    const share = row.before ? `, × ${number(row.advantages[t] / row.before)}` : "";
    lines.push(`advantage ${signed(row.before)} → ${signed(row.advantages[t])}${share}`);
  }
  if (row.planning) lines.push(row.planning[t] ? "planning token" : "execution token");
  if (row.untrained) lines.push("not part of the update");
  return lines;
};

const swatch = (className, text) => make("span", "swatch", make("i", "t " + className), text);

const legendOf = (key, top) => {
  const parts = [];
  if (key === "planning") parts.push(swatch("on plan", "planning"), swatch("", "execution"));
  else if (COLOURS[key].both) {
    for (let level = -4; level <= 4; level += 1) {
      const edge = (top * level) / 4;
      const most = Math.abs(level) === 4 ? (level > 0 ? " or more" : " or less") : "";
      parts.push(swatch(level ? (level > 0 ? "p" : "m") + Math.abs(level) : "", signed(edge) + most));
    }
  } else if (key !== "none") {
    for (let level = 0; level <= 8; level += 1) {
      parts.push(swatch("u" + level, number(top * (level / 8) ** 2, 2) + (level === 8 ? " or more" : "")));
    }
  }
  const underline = key === "planning" ? [] : [swatch("plan", "underlined: planning token")];
  return [make("b", "", COLOURS[key].name), make("div", "swatches", ...parts, ...underline)];
};
