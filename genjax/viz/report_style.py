"""The style sheet of reports: light and dark by the reader's setting, readable on paper and on a phone."""

CSS = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b1e25; --soft: #616875; --line: #e1e4ea; --accent: #0b63b5;
  --c0: #0072b2; --good: #10713f; --good-back: #e2f5ea; --bad: #b3261e; --bad-back: #fce8e6;
  --idle-back: #eceef2; --code: #f1f3f6 }
@media (prefers-color-scheme: dark) { :root {
  --page: #13151a; --card: #1b1e25; --ink: #e7e9ee; --soft: #9aa2b1; --line: #2c313b; --accent: #6cb4ff;
  --c0: #4ea6e6; --good: #7ee0a6; --good-back: #173627; --bad: #ff9d94; --bad-back: #43201d;
  --idle-back: #2a2e37; --code: #14171c } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 36px 24px 56px }
header { margin-bottom: 22px }
h1 { font-size: 27px; line-height: 1.25; letter-spacing: -.015em; margin: 0; display: inline }
h2 { font-size: 18px; letter-spacing: -.01em; margin: 38px 0 12px; scroll-margin-top: 12px }
h3 { font-size: 14px; margin: 0 0 8px }
p { margin: 0 0 12px; max-width: 76ch }
a { color: var(--accent); text-decoration: none } a:hover { text-decoration: underline }
.subtitle { color: var(--soft); margin: 6px 0 0; overflow-wrap: anywhere }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 14px; padding-top: 12px;
  border-top: 1px solid var(--line); font-size: 14px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px;
  margin: 0 0 16px; overflow-x: auto }
.chip { display: inline-block; border-radius: 99px; padding: 1px 10px; font-size: 12.5px; font-weight: 600;
  background: var(--idle-back); color: var(--soft); white-space: nowrap }
h1 + .chip { margin-left: 10px; transform: translateY(-4px) }
.chip.good { background: var(--good-back); color: var(--good) }
.chip.bad { background: var(--bad-back); color: var(--bad) }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: 8px }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; white-space: nowrap;
  border-bottom: 1px solid var(--line) }
th, td { padding: 6px 22px 6px 0; vertical-align: top; overflow-wrap: break-word }
th:last-child, td:last-child { padding-right: 0 }
td { border-bottom: 1px solid var(--line) }
tr:last-child td { border-bottom: 0 }
th.number, td.number { text-align: right; white-space: nowrap }
tr.bad td:first-child { position: relative }
tr.bad td:first-child::before { content: ""; position: absolute; left: -10px; top: 5px; bottom: 5px;
  width: 3px; border-radius: 2px; background: var(--bad) }
tr.bad td.got { color: var(--bad); font-weight: 600 }
td.source { color: var(--soft); font-size: 13px }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(134px, 1fr)); gap: 12px;
  margin: 0 0 16px }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px }
.facts dl { margin: 0 }
.facts dt { color: var(--soft); font-size: 12.5px }
.facts dd { margin: 0; font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere }
.facts dd.long { font-size: 13.5px; line-height: 1.4; padding-top: 3px }
.figures { display: grid; gap: 14px; margin: 0 0 16px }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px }
figure img { display: block; width: 100%; height: auto; border-radius: 4px }
figure img.tiny { image-rendering: pixelated }
figure.whole { margin-bottom: 16px }
figure.whole img { width: auto; max-width: 100%; margin: 0 auto }
figcaption { padding-top: 8px; font-size: 13.5px; color: var(--soft); overflow-wrap: anywhere }
figcaption b { color: var(--ink); display: block }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px;
  margin: 0 0 16px }
.plots svg { display: block; width: 100%; height: auto }
.plots svg text { font-family: inherit !important }
.plots figure.wide { grid-column: 1 / -1; max-width: 820px; width: 100%; justify-self: center }
pre { margin: 0; padding: 12px 14px; background: var(--code); border-radius: 8px; overflow-x: auto;
  max-height: 480px; tab-size: 4;
  font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
details, .code { margin: 0 0 16px }
.code pre { white-space: pre-wrap; overflow-wrap: anywhere }
details pre { margin-top: 10px }
summary { cursor: pointer; font-weight: 600; font-size: 14px }
del, ins { text-decoration: none; border-radius: 4px; padding: 0 5px }
del { color: var(--bad); background: var(--bad-back) }
ins { color: var(--good); background: var(--good-back) }
footer { color: var(--soft); font-size: 13px; margin-top: 36px; padding-top: 12px;
  border-top: 1px solid var(--line) }
@media (max-width: 640px) {
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)) !important }
  main { padding: 24px 14px 40px }
}
@media print {
  body { background: none }
  .card, figure { break-inside: avoid }
  pre { max-height: none }
}
"""
