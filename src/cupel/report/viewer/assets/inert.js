// Text as text: nothing a model wrote is ever markup, and what would not show, or would turn a line
// round, becomes a visible sign.
const NAMED = {
  0x85: "NEL", 0xad: "SHY", 0x61c: "ALM", 0x200b: "ZWSP", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LS",
  0x2029: "PS", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
};
const CONTROLS = ["NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO",
  "SI", "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US"];
const ODD = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]/;

const sign = (code) => {
  if (code === 0x0a) return "⏎";
  if (code === 0x09) return "⇥";
  if (code < 0x20) return CONTROLS[code];
  if (code === 0x7f) return "DEL";
  if (NAMED[code]) return NAMED[code];
  const hidden = (code >= 0x80 && code < 0xa0) || (code >= 0xd800 && code < 0xe000)
    || (code >= 0x2061 && code < 0x2070) || (code >= 0xfff9 && code < 0xfffc)
    || (code >= 0xe0000 && code < 0xe0080);
  return hidden ? codeName(code) : null;
};
const codeName = (code) => "U+" + code.toString(16).toUpperCase().padStart(4, "0");

const make = (tag, className, ...content) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
};

const signOf = (code, shown) => {
  const mark = make("i", "sign", shown);
  mark.title = codeName(code);
  return mark;
};

// Appends text to an element; a line break shows its sign and breaks the line.
const inert = (element, text) => {
  if (!ODD.test(text)) {
    element.append(text);
    return element;
  }
  let plain = "";
  for (const character of text) {
    const code = character.codePointAt(0);
    const shown = sign(code);
    if (shown === null) {
      plain += character;
      continue;
    }
    if (plain) element.append(plain);
    element.append(signOf(code, shown));
    plain = code === 0x0a || code === 0x09 ? character : "";
  }
  if (plain) element.append(plain);
  return element;
};

// The same on one line, for options, tips and attributes, which hold no elements.
const oneLine = (text, most = 60) => {
  const characters = [...text].slice(0, most).map((character) => {
    const shown = sign(character.codePointAt(0));
    return shown === null ? character : shown.length === 1 ? shown : `⟨${shown}⟩`;
  });
  return characters.join("") + ([...text].length > most ? "…" : "");
};
