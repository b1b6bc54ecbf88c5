// A field above each table that has the class "filtered": it shows the rows that have what is typed.
document.querySelectorAll("table.filtered").forEach((table, number) => {
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = "Filter ";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "name or value";
  label.append(field);
  const frame = table.closest(".table-wrapper") || table;
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", `Table ${number + 1}`);
  frame.before(label);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    table.querySelectorAll("tbody tr").forEach((row) => {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  });
});
document.querySelectorAll(".table-wrapper:not([tabindex]), div.highlight pre").forEach((frame) => {
  if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
});
