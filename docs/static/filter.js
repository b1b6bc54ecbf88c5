// One field above the tables that have the class "filtered": it shows the rows that have what is typed, and hides the
// parts of the page in which no row has it. What is typed is kept in the address, so that it can be passed on.
const tables = [...document.querySelectorAll("table.filtered")];
if (tables.length) {
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = "Filter ";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "name or value";
  const found = document.createElement("span");
  found.setAttribute("role", "status");
  label.append(field);
  const line = document.createElement("p");
  line.className = "filter";
  line.append(label, " ", found);
  const partOf = (table) => (tables.length > 1 ? table.closest("section") : null);
  const first = partOf(tables[0]) || tables[0].closest(".table-wrapper") || tables[0];
  first.before(line);
  tables.forEach((table) => {
    const frame = table.closest(".table-wrapper") || table;
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    const heading = (partOf(table) || document).querySelector("h1, h2");
    frame.setAttribute("aria-label", `Table: ${heading ? heading.firstChild.textContent : ""}`);
  });
  const show = () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    tables.forEach((table) => {
      let here = 0;
      table.querySelectorAll("tbody tr").forEach((row) => {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        here += !row.hidden;
      });
      const part = partOf(table);
      // The name of a group stands for all of its rows.
      if (part && wanted && part.querySelector("h2").textContent.toLowerCase().includes(wanted)) {
        table.querySelectorAll("tbody tr").forEach((row) => { row.hidden = false; });
        here = table.querySelectorAll("tbody tr").length;
      }
      if (part) part.hidden = !here;
      shown += here;
    });
    found.textContent = wanted ? `${shown} ${shown === 1 ? "row" : "rows"}` : "";
  };
  field.addEventListener("input", () => {
    show();
    const address = new URL(location.href);
    if (field.value) address.searchParams.set("filter", field.value); else address.searchParams.delete("filter");
    try { history.replaceState(null, "", address); } catch { /* a file: page may not */ }
  });
  field.value = new URL(location.href).searchParams.get("filter") || "";
  show();
}
document.querySelectorAll(".table-wrapper:not([tabindex]), div.highlight pre").forEach((frame) => {
  if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
});
