(() => {
  "use strict";
  const states = {}; // by table id, so that a table that is replaced keeps its filters and its order

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.v);
  };
  const before = (a, b) => {
    const [left, right] = [a.key, b.key];
    const missing = (key) => key === "–" || key === "";
    if (missing(left) || missing(right)) return missing(left) - missing(right); // always at the end
    if (typeof left === "number" && typeof right === "number") return left - right;
    return String(left).localeCompare(String(right), "en", { numeric: true });
  };

  const apply = (table) => {
    const state = states[table.id];
    const body = table.tBodies[0];
    const rows = [...body.rows].filter((row) => row.dataset.place !== undefined);
    const ordered = rows.map((row) => ({ row, key: state.column === null ? 0 : value(row, state.column) }));
    ordered.sort((a, b) => {
      const end = (item) => (item.key === "–" || item.key === "" ? 1 : 0);
      const sign = end(a) || end(b) ? 1 : state.down ? -1 : 1;
      return (state.column === null ? 0 : sign * before(a, b)) || a.row.dataset.place - b.row.dataset.place;
    });
    let shown = 0;
    for (const { row } of ordered) {
      const words = row.textContent.toLowerCase();
      const fits = state.text.toLowerCase().split(/\s+/).every((word) => words.includes(word))
        && (!state.status || row.classList.contains(state.status))
        && (!state.condition || row.dataset.c === state.condition);
      row.hidden = !fits;
      shown += fits;
      body.append(row);
    }
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (column === state.column) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const tools = document.querySelector(`.tools[data-table="${table.id}"]`);
    if (tools) tools.querySelector("output").textContent = `${shown} of ${rows.length} runs`;
  };

  const mount = (table) => {
    states[table.id] ??= { column: null, down: false, text: "", status: "", condition: "" };
    const state = states[table.id];
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        if (state.column !== column) [state.column, state.down] = [column, false];
        else if (!state.down) state.down = true;
        else [state.column, state.down] = [null, false];
        apply(table);
      });
    });
    const tools = document.querySelector(`.tools[data-table="${table.id}"]`);
    if (tools) {
      for (const field of tools.querySelectorAll("[data-filter]")) {
        const name = field.dataset.filter;
        field.value = state[name];
        if (field.value !== state[name]) state[name] = field.value = ""; // a status that is gone
        field.addEventListener("input", () => { state[name] = field.value; apply(table); });
      }
      const sort = tools.querySelector("[data-sort]");
      sort.value = state.column ?? "";
      sort.addEventListener("input", () => {
        [state.column, state.down] = [sort.value === "" ? null : Number(sort.value), false];
        apply(table);
      });
    }
    apply(table);
  };

  const mountAll = (root) => root.querySelectorAll("table.sortable").forEach(mount);
  document.addEventListener("cupel:parts", (event) => mountAll(event.detail));
  mountAll(document);
})();
