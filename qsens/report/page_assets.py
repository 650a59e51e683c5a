"""Style sheet and script of the report page; both are written into it, nothing is fetched."""

STYLE = """
:root { --ink: #1a1a1a; --faint: #5f5f5f; --line: #dcdcd8; --shade: #f5f5f2; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem 1.25rem 3rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
p { margin: .4rem 0; max-width: 60rem; }
.faint, figcaption { color: var(--faint); font-size: .9rem; }
.answer { background: var(--shade); border-left: 5px solid var(--accent); padding: .8rem 1rem;
  margin: 1rem 0; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
.answer p { max-width: none; }
.answer strong { font-size: 1.15rem; }
.finding { border-left: 5px solid #9a9a9a; background: var(--shade); padding: .5rem .9rem; margin: .5rem 0; }
.finding.warning { border-color: #D55E00; background: #fdf3ec; }
.finding b { margin-right: .4rem; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: middle; white-space: nowrap; }
th { background: var(--shade); font-weight: 600; white-space: normal; max-width: 9rem;
  position: sticky; top: 0; }
table.sortable th { cursor: pointer; }
table.sortable th[aria-sort=ascending]::after { content: " \\25B2"; font-size: .7em; }
table.sortable th[aria-sort=descending]::after { content: " \\25BC"; font-size: .7em; }
td.number, th.number { text-align: right; }
td.text { white-space: normal; min-width: 12.5rem; } td .note { font-size: .95em; color: #9c3f00; }
tr.chosen td { background: #fff6dd; }
tr.failed td { color: #9c3f00; }
tr.differs td:first-child::after { content: " *"; color: #D55E00; font-weight: 700; }
.chip { display: inline-block; min-width: 3.1rem; text-align: center; border-radius: .7rem; padding: 0 .5rem;
  font-size: .78rem; font-weight: 600; color: #fff; }
.fp32 { background: #1a1a1a; } .fp16 { background: #007F5F; } .int8 { background: #A0528C; }
.mismatch { outline: 2px solid #D55E00; outline-offset: 1px; }
.map { display: block; width: 6.5rem; height: .85rem; border-radius: .15rem; }
.bar { display: inline-block; height: .6rem; background: #8fb8d3; margin-right: .4rem;
  vertical-align: middle; }
figure { margin: 1rem 0; }
figure img { max-width: min(100%, 66rem); height: auto; border: 1px solid var(--line); }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .86rem;
  margin: .4rem 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
code { background: var(--shade); padding: 0 .25rem; font-size: .88em; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: 1rem .7rem; } dl { grid-template-columns: 1fr; } }
@media print { body { max-width: none; font-size: 11px; } .wide { overflow: visible; }
  th { position: static; }
  figure, tr, .finding, .answer { break-inside: avoid; } details > * { display: block; }
  .chip, .map, .answer, tr.chosen td { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

SCRIPT = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  var heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    function sort() {
      var up = head.getAttribute("aria-sort") !== "ascending";
      var key = function (row) { return row.cells[column].dataset.key || row.cells[column].textContent; };
      var rows = Array.from(table.tBodies[0].rows);
      rows.sort(function (a, b) {
        var x = key(a), y = key(b), m = parseFloat(x), n = parseFloat(y);
        if (isNaN(m) !== isNaN(n)) { return isNaN(m) ? 1 : -1; }
        var order = isNaN(m) ? x.localeCompare(y) : (m === n ? 0 : m - n);
        return up ? order : -order;
      });
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
    }
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", function (event) { if (event.key === "Enter") { sort(); } });
  });
});
"""
