// Behind DataTables, which is called Tables: has every table sorted and searched, tells DataTables of
// the dark scheme, and lets marks of charts say what they are of where the pointer rests on them.
const scheme = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", scheme.matches);
follow();
scheme.addEventListener("change", follow);

for (const mark of document.querySelectorAll("figure svg [role=graphics-symbol][aria-label]")) {
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = mark.getAttribute("aria-label");
  mark.append(title);
}

for (const table of document.querySelectorAll("table.data")) {
  new Tables(table, {
    autoWidth: false,
    order: [], // as written, until a column is chosen
    pageLength: 10,
    lengthMenu: [10, 25, 100, { label: "all", value: -1 }],
    paging: table.tBodies[0].rows.length > 10,
    info: table.tBodies[0].rows.length > 10,
  });
}
