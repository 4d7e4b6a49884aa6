"""The style sheet of the page, within it; no font or picture comes from elsewhere."""

STYLE = """
:root { color-scheme: light dark; --paper: #fefefe; --ink: #1d2023; --soft: #5d636a; --line: #dcdde0; --box: #f3f5f7;
  --link: #005a8f; --good: #006b4f; --bad: #b03a00; --failed: #fdeee4; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191c; --ink: #e4e6e8; --soft: #a2a9b0; --line: #383d42;
  --box: #1f2327; --link: #6cbcf0; --good: #4fcfa5; --bad: #ff9a62; --failed: #3a2317; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "Liberation Sans", Arial, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 .6rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .5rem; font-size: 1.25rem; }
h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; }
h4 { margin: 0; font-size: .75rem; font-weight: 600; color: var(--soft); }
a { color: var(--link); }
section { margin-top: 2.5rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem;
  margin: 0 0 .6rem; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; }
code, pre { font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { overflow-x: auto; padding: .8rem; background: var(--box); }
.summary { padding: 1rem 1.2rem; margin-top: 1.5rem; background: var(--box); border-left: 4px solid #0072b2; }
.summary ul, .found { margin: 0; padding-left: 1.2rem; }
.summary a { font-size: .8rem; }
nav { margin-top: 1.5rem; }
nav h2 { font-size: 1rem; }
nav ol { margin: 0; padding-left: 1.4rem; columns: 18rem; font-size: .9rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1rem;
  margin: .8rem 0; }
.plots svg { display: block; width: 100%; height: auto; }
.plots svg * { stroke-linejoin: round; stroke-linecap: butt; }
.caption { margin: 0 0 .6rem; color: var(--soft); font-size: .8rem; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.failed td { background: var(--failed); }
.failed td:nth-child(5) { color: var(--bad); font-weight: 700; }
.said { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; padding: .6rem 0;
  border-top: 1px solid var(--line); }
.said p { grid-column: 1 / -1; margin: 0; }
.said > div { min-width: 0; padding: .4rem .6rem; background: var(--box); }
.said small { color: var(--soft); }
.said q { quotes: none; white-space: pre-wrap; }
.mark { float: right; font-size: .8rem; font-weight: 700; color: var(--soft); }
.same { color: var(--good); }
.same::before { content: "= "; }
.differs { color: var(--bad); }
.differs::before { content: "\\2260 "; }
.none { color: var(--soft); }
@media (max-width: 34rem) { .said { grid-template-columns: minmax(0, 1fr); } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .3rem; }
  .stacked thead { display: none; }
  .stacked tr { display: flex; flex-wrap: wrap; gap: 0 .8rem; padding: .4rem .6rem;
    border-bottom: 1px solid var(--line); }
  .stacked td { padding: 0; border: 0; }
  .stacked td::before { content: attr(data-head) " "; color: var(--soft); font-weight: 400; }
  .stacked td:last-child { flex: 1 1 100%; min-width: 0; overflow-wrap: anywhere; }
  .stacked .failed { background: var(--failed); } }
@media print { :root { --paper: #fff; --ink: #000; } body { max-width: none; padding: 0; font-size: 11px; }
  .scroll { overflow: visible; }
  .plots svg, .said, tr { break-inside: avoid; } nav { display: none; } }
"""
