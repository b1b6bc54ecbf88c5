"use strict";
(() => {
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const rows = all("tr.claim-row");
  const parts = new Map(all("details.claim").map(part => [part.dataset.index, part]));
  const filters = ["text", "document", "group", "verdict", "kernel"];
  const chosen = name => find(`#f-${name}`).value;
  const WRONG = document.body.dataset.wrong.split("|");

  // ------------------------------------------------------------------ filters
  function verdictPasses(states, verdict) {
    if (verdict === "*") return new Set(states.filter(Boolean)).size > 1;
    if (verdict === "!") return states.some(state => WRONG.includes(state));
    return states.includes(verdict);
  }
  function passes(row, want) {
    const states = row.dataset.states.split("|");
    const seen = want.kernel === "" ? states : [states[Number(want.kernel)]];
    return want.words.every(word => row.dataset.text.includes(word))
      && (want.document === "" || row.dataset.documents.split(" ").includes(want.document))
      && (want.group === "" || row.parentElement.dataset.group === want.group)
      && (want.kernel === "" || states[Number(want.kernel)] !== "")
      && (want.verdict === "" || verdictPasses(want.verdict === "*" ? states : seen, want.verdict));
  }
  function filter() {
    const want = Object.fromEntries(filters.map(name => [name, chosen(name)]));
    want.words = want.text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const visible = passes(row, want);
      row.hidden = !visible;
      parts.get(row.dataset.index).hidden = !visible;
      shown += visible;
      const states = row.dataset.states.split("|");
      const mark = want.verdict !== "" && want.verdict !== "*";
      row.classList.toggle("dimmed-cells", mark);
      for (const cell of all("td", row))
        cell.classList.toggle("hit", mark && verdictPasses([states[Number(cell.dataset.column)]], want.verdict));
    }
    for (const group of all("#matrix tbody")) group.hidden = !all("tr.claim-row", group).some(row => !row.hidden);
    for (const cell of all("#matrix [data-column]")) cell.hidden = want.kernel !== "" && cell.dataset.column !== want.kernel;
    find("#shown").textContent = `${shown} of ${rows.length} claims`;
    find("#nothing").hidden = shown > 0;
  }
  let waiting = 0;
  const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(filter); };
  find("#filters").addEventListener("input", soon);
  find("#filters").addEventListener("reset", () => setTimeout(filter));
  find("#filters").addEventListener("submit", event => event.preventDefault());

  // What sticks to the top is as high as its lines are many: nothing may hide behind it.
  const bar = find("#filters");
  function measure() {
    const high = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
    document.documentElement.style.setProperty("--bar", `${high}px`);
  }
  measure();
  new ResizeObserver(measure).observe(bar);

  // ------------------------------------------------------------------ what stands behind a cell
  async function unfold(place) {
    const text = document.getElementById(`packed-${place}`).textContent;
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Response(stream).text();
  }
  const bodies = new Map();
  function body(claim) {
    const index = claim.dataset.index;
    if (!bodies.has(index))
      bodies.set(index, unfold(index).then(content => { find(".body", claim).innerHTML = content; }));
    return bodies.get(index);
  }
  async function show(place) {
    const claim = parts.get(place.split("-")[0]);
    if (claim.dataset.shown === place) return;
    claim.dataset.shown = place;
    try {
      await body(claim);
      for (const tab of all(".tab", claim)) {
        tab.setAttribute("aria-selected", String(tab.dataset.cell === place));
        tab.tabIndex = tab.dataset.cell === place ? 0 : -1;
      }
      const content = document.getElementById(`packed-${place}`) ? await unfold(place) : "";
      const panel = find(".part", claim);
      if (claim.dataset.shown === place) { panel.innerHTML = content; panel.dataset.ready = place; }
    } catch (error) {
      find(".body", claim).textContent = `This part of the page cannot be unfolded: ${error}`;
    }
  }
  async function open(place, move = true) {
    const claim = parts.get(place.split("-")[0]);
    claim.hidden = false;
    claim.dataset.wanted = place;
    claim.open = true;
    await show(place);
    if (move) { find("summary", claim).focus({ preventScroll: true }); claim.scrollIntoView(); }
  }
  for (const claim of parts.values())
    claim.addEventListener("toggle", () => {
      if (claim.open && !claim.dataset.shown)
        show(claim.dataset.wanted || `${claim.dataset.index}-${claim.dataset.first}`);
    });
  for (const chapter of all("details.chapter"))
    chapter.addEventListener("toggle", async () => {
      if (!chapter.open || chapter.dataset.shown) return;
      chapter.dataset.shown = "yes";
      find(".body", chapter).innerHTML = await unfold(chapter.id);
    });
  document.addEventListener("click", event => {
    const link = event.target.closest("[data-open]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      history.replaceState(null, "", link.getAttribute("href"));
      from = link;
      open(link.dataset.open);
    }
    const tab = event.target.closest(".tab");
    if (tab) show(tab.dataset.cell);
    const copy = event.target.closest(".copy");
    if (copy) copyText(copy);
  });
  function copyText(button) {
    const code = button.previousElementSibling;
    const told = word => { button.textContent = word; };
    const select = () => { getSelection().selectAllChildren(code); told("selected"); };
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(() => told("copied"), select);
    else select();
  }
  function byAddress() {
    const claim = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (claim && claim.matches("details.chapter")) claim.open = true;
    if (claim && claim.matches("details.claim")) open(`${claim.dataset.index}-${claim.dataset.first}`);
  }
  addEventListener("hashchange", byAddress);

  // ------------------------------------------------------------------ keyboard
  let from = null;
  const links = row => all("th a, td a.verdict", row).filter(link => !link.closest("[hidden]"));
  function move(link, key) {
    const row = link.closest("tr");
    const here = links(row);
    const column = here.indexOf(link);
    const visible = rows.filter(one => !one.hidden);
    const next = { ArrowLeft: () => here[column - 1], ArrowRight: () => here[column + 1], Home: () => here[0],
      End: () => here[here.length - 1], ArrowUp: () => at(-1), ArrowDown: () => at(1) }[key]();
    function at(step) {
      const other = visible[visible.indexOf(row) + step];
      const there = other && links(other);
      return there && there[Math.min(column, there.length - 1)];
    }
    if (next) { roving(next); next.focus(); }
  }
  function roving(link) {
    for (const one of all("#matrix a[tabindex='0']")) one.tabIndex = -1;
    link.tabIndex = 0;
  }
  function nextLoud(step) {
    const loud = all("#matrix a.verdict.loud").filter(link => !link.closest("[hidden]"));
    const now = loud.indexOf(document.activeElement);
    const link = loud[(now + step + loud.length) % loud.length] || loud[0];
    if (link) { roving(link); link.focus(); }
  }
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select");
    const link = event.target.closest("#matrix a");
    const tab = event.target.closest(".tab");
    if (event.key === "Escape" && typing) event.target.blur();
    else if (event.key === "Escape") (from && !from.closest("[hidden]") ? from : find("#matrix tbody a")).focus();
    else if (typing) return;
    else if (event.key === "/") { event.preventDefault(); find("#f-text").focus(); }
    else if (event.key === "?") { find("#help").open = true; find("#help").scrollIntoView(); }
    else if (event.key === "n" || event.key === "p") nextLoud(event.key === "n" ? 1 : -1);
    else if (tab && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const other = event.key === "ArrowLeft" ? tab.previousElementSibling : tab.nextElementSibling;
      if (other) { other.focus(); show(other.dataset.cell); }
    }
    else if (link && /^(Arrow|Home|End)/.test(event.key)) { event.preventDefault(); move(link, event.key); }
  });
  for (const link of all("#matrix a")) link.tabIndex = -1;
  const first = find("#matrix tbody a");
  if (first) first.tabIndex = 0;
  filter();
  byAddress();
})();
