(() => {
  "use strict";
  const EVERY_MS = 500, HIDDEN_MS = 5000;
  const page = document.getElementById("page");
  const pieces = JSON.parse(document.getElementById("digests").textContent);
  const figures = {}; // digests by slug
  const near = new Set(); // figures in or near the view
  const pill = document.createElement("p");
  pill.className = "live";
  pill.setAttribute("role", "status");
  document.body.append(pill);
  const say = (kind, text) => {
    pill.className = `live ${kind}`;
    if (pill.textContent !== text) pill.textContent = text;
  };

  const seen = new IntersectionObserver((entries) => {
    let more = false;
    for (const entry of entries) {
      const slug = entry.target.id.replace("fig-", "");
      if (!entry.isIntersecting) { if (entry.target.isConnected) near.delete(slug); }
      else { more ||= !near.has(slug) && !(slug in figures); near.add(slug); }
    }
    if (more) ask(true);
  }, { rootMargin: "600px" });
  const watch = (within) => {
    for (const figure of within.querySelectorAll("figure.fig:not(.slope)")) seen.observe(figure);
  };

  const nameOf = (element, piece) => { // what a control is, so that its successor gets the focus
    const within = element.closest("[id]")?.id ?? piece.id;
    const kind = element.tagName;
    const alike = [...piece.querySelectorAll(kind)].filter((each) => (each.closest("[id]")?.id ?? piece.id) === within);
    return { within, kind, place: alike.indexOf(element) };
  };
  const replace = (id, html, order) => {
    const old = document.getElementById(id);
    const frame = document.createElement("template");
    frame.innerHTML = html;
    const fresh = frame.content.firstElementChild;
    if (!old) {
      const after = order.slice(order.indexOf(id) + 1).map((name) => document.getElementById(name)).find(Boolean);
      page.insertBefore(fresh, after ?? page.querySelector("footer"));
    } else {
      const open = [...old.querySelectorAll("details")].map((each) => each.open);
      const focused = old.contains(document.activeElement) ? document.activeElement : null;
      const path = focused && nameOf(focused, old);
      const caret = focused?.selectionStart;
      old.replaceWith(fresh);
      [...fresh.querySelectorAll("details")].forEach((each, place) => { if (place < open.length) each.open = open[place]; });
      document.dispatchEvent(new CustomEvent("cupel:parts", { detail: fresh }));
      if (focused) {
        const again = [...fresh.querySelectorAll(path.kind)].filter((each) => nameOf(each, fresh).within === path.within)[path.place];
        again?.focus({ preventScroll: true });
        if (caret !== undefined && caret !== null) again?.setSelectionRange?.(caret, caret);
      }
      watch(fresh);
      return;
    }
    document.dispatchEvent(new CustomEvent("cupel:parts", { detail: fresh }));
    watch(fresh);
  };

  const take = (news) => {
    for (const id of Object.keys(pieces)) {
      if (news.order.includes(id)) continue;
      document.getElementById(id)?.remove();
      delete pieces[id];
    }
    for (const id of news.order) {
      const piece = news.pieces[id];
      if (!piece) continue;
      pieces[id] = piece.digest;
      replace(id, piece.html, news.order);
    }
    const data = {};
    for (const [slug, figure] of Object.entries(news.figures)) {
      figures[slug] = figure.digest;
      data["fig-" + slug] = figure.data;
    }
    if (Object.keys(data).length) document.dispatchEvent(new CustomEvent("cupel:data", { detail: data }));
    if (news.problem) say("lost", news.problem);
    else if (news.running) say("", "following");
    else say("still", "no run is going on");
  };

  let asking = false, again = false, timer = 0;
  const list = (digests) => Object.entries(digests).map(([name, digest]) => `${name}:${digest}`).join(",");
  const ask = async (now) => {
    if (asking) { again ||= now; return; }
    asking = true;
    clearTimeout(timer);
    const wanted = Object.fromEntries([...near].filter((slug) => document.getElementById("fig-" + slug)).map((slug) => [slug, figures[slug] ?? ""]));
    try {
      const query = new URLSearchParams({ pieces: list(pieces), figures: list(wanted) });
      const answer = await fetch("changes?" + query, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      take(await answer.json());
    } catch {
      say("lost", "the server does not answer; trying again");
    }
    asking = false;
    timer = setTimeout(ask, again ? 0 : document.hidden ? HIDDEN_MS : EVERY_MS);
    again = false;
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(true); });
  say("", "following");
  watch(document);
  ask();
})();
