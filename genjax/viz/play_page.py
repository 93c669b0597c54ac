"""The page of `launch.py play`: sliders in groups and one image, in one file without anything from elsewhere."""

import html

from genjax.viz.report_style import CSS

_STYLE = """
.stage { display: grid; grid-template-columns: minmax(0, 9fr) minmax(0, 13fr); gap: 26px; align-items: start }
#box { columns: 2 270px; column-gap: 16px }
#image { width: 100%; max-width: 560px; image-rendering: pixelated; border-radius: 6px; display: block; margin: 0 auto }
.show { position: sticky; top: 16px; text-align: center }
@media (max-width: 900px) { .stage { grid-template-columns: minmax(0, 1fr) } .show { position: static } }
fieldset { border: 1px solid var(--line); border-radius: 10px; background: var(--card); margin: 0 0 14px;
  padding: 8px 14px; break-inside: avoid }
legend { font-weight: 600; font-size: 13.5px; padding: 0 6px }
.dial { display: grid; grid-template-columns: 88px minmax(0, 1fr) 40px; gap: 10px; align-items: center;
  font-size: 13.5px }
.dial output { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft) }
.dial.pale { opacity: .35 }
.dial input { width: 100%; accent-color: var(--accent) }
button { font: inherit; padding: 5px 14px; border-radius: 8px; border: 1px solid var(--line); background: var(--card);
  color: var(--ink); cursor: pointer }
#said { color: var(--soft); font-size: 13px; min-height: 1.6em; margin: 8px 0 }
"""

_SCRIPT = """
const dials = JSON.parse(document.getElementById('dials').textContent);
const [box, image, said] = ['box', 'image', 'said'].map(id => document.getElementById(id));
const inputs = {};
let busy = false, wanted = false;
for (const d of dials) {
  let group = [...box.querySelectorAll('fieldset')].find(f => f.dataset.group === d.group);
  if (!group) {
    group = document.createElement('fieldset'); group.dataset.group = d.group;
    const legend = document.createElement('legend'); legend.textContent = d.group || 'scene';
    group.append(legend); box.append(group);
  }
  const row = document.createElement('label'); row.className = 'dial';
  const name = document.createElement('span'); name.textContent = d.name.replace(/_\\d+$/, '').replace(/_/g, ' ');
  const input = Object.assign(document.createElement('input'), {type: 'range', min: d.low, max: d.high, step: d.step});
  input.id = d.name; input.value = d.value;
  const output = document.createElement('output');
  const show = () => output.textContent = d.step >= 1 ? input.value : Number(input.value).toFixed(2);
  input.addEventListener('input', () => { show(); settle(); draw(); });
  inputs[d.name] = {input, show, row, needs: d.needs, start: d.value}; show();
  row.append(name, input, output); group.append(row);
}
function settle() {
  for (const {row, needs} of Object.values(inputs))
    row.classList.toggle('pale', Boolean(needs) && Number(inputs[needs[0]].input.value) < needs[1]);
}
async function draw() {
  wanted = true;
  if (busy) return;
  busy = true;
  while (wanted) {
    wanted = false;
    const query = new URLSearchParams();
    for (const [name, {input}] of Object.entries(inputs)) query.set(name, input.value);
    const began = performance.now();
    try {
      const answer = await fetch('image?' + query);
      if (!answer.ok) throw new Error(await answer.text());
      const old = image.src;
      image.src = URL.createObjectURL(await answer.blob());
      await image.decode();
      if (old.startsWith('blob:')) URL.revokeObjectURL(old);
      const whole = performance.now() - began;
      const drawn = 1000 * answer.headers.get('X-Seconds');
      said.textContent = `${Math.round(drawn)} ms drawn, ${Math.round(whole)} ms in all`;
      image.dataset.drawn = Number(image.dataset.drawn || 0) + 1;
    } catch (error) { said.textContent = String(error.message || error); }
  }
  busy = false;
}
document.getElementById('reset').addEventListener('click', () => {
  for (const {input, show, start} of Object.values(inputs)) { input.value = start; show(); }
  settle();
  draw();
});
settle();
draw();
"""


def page(title: str, dials: str) -> str:
    """The HTML page.

    Args:
      title: shown above.
      dials: JSON, a list of {name, low, high, value, step, group, needs}.
    """
    dials = dials.replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{CSS}{_STYLE}</style></head><body><main>
<header><h1>{html.escape(title)}</h1><p class="subtitle">move a slider, the image follows</p></header>
<div class="stage"><div class="show"><img id="image" alt="the image"><p id="said"></p>
<button id="reset" type="button">as at first</button></div><div id="box"></div></div></main>
<script type="application/json" id="dials">{dials}</script><script>{_SCRIPT}</script></body></html>
"""
