// The page's data, and which of its rows match what is asked for.
const unpacked = async () => {
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

const textOf = (row) => row.pieces ? row.pieces.join("") : row.text || "";
const searchable = (group, row) => {
  if (row.lower === undefined) {
    row.lower = [textOf(row), group.problem, group.prompt || ""].join("\n").toLowerCase();
  }
  return row.lower;
};

// Every row in reading order, each knowing its place.
const flattened = (data) => {
  const places = [];
  data.runs.forEach((run, r) => run.groups.forEach((group, g) => group.rows.forEach((row, i) => {
    row.at = places.length;
    places.push({ r, g, i, run, group, row });
  })));
  return places;
};

const matching = (places, show, find) => {
  const wanted = find.toLowerCase();
  return places.filter(({ group, row }) =>
    (show === "all" || row.tags.includes(show)) && (!wanted || searchable(group, row).includes(wanted)));
};

// 99 % of the values lie below; computed on at most 40,000 of them.
const quantile = (values) => {
  if (!values.length) return null;
  const stride = Math.ceil(values.length / 40000);
  const kept = values.filter((_, place) => place % stride === 0).sort((a, b) => a - b);
  return kept[Math.min(kept.length - 1, Math.floor(0.99 * kept.length))];
};

const rounded = (value) => {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].find((step) => step * unit >= value * 0.9999) * unit;
};
const number = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  const text = Number(value.toPrecision(digits)).toString();
  return text.replace("-", "−");
};
const signed = (value) => (value > 0 ? "+" : "") + number(value);
