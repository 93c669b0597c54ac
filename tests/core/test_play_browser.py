"""The page of `play` in a real browser: it opens, shows an image, and the image follows a slider.

Skipped where no Chromium, FastAPI or uvicorn is installed. A page of the test's own holds the page in a frame, moves
its sliders as a hand would, and tells the server what it saw.
"""

import json
import queue
import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest

from genjax.core.play import Dial, Stage, application

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")

PROBE = """<!doctype html><iframe id="f" src="/" width="900" height="700"></iframe><script>
const frame = document.getElementById('f'), until = async test => {
  for (let i = 0; i < 400 && !test(); ++i) await new Promise(r => setTimeout(r, 25)); };
const seen = image => {
  const c = Object.assign(document.createElement('canvas'), {width: image.naturalWidth, height: image.naturalHeight});
  const on = c.getContext('2d'); on.drawImage(image, 0, 0);
  return {size: [c.width, c.height], pixel: [...on.getImageData(0, 0, 1, 1).data], drawn: Number(image.dataset.drawn),
    pale: frame.contentDocument.querySelectorAll('.pale').length};
};
frame.onload = async () => {
  const page = frame.contentDocument, at = id => page.getElementById(id), image = at('image');
  const move = async (id, value) => {
    const before = Number(image.dataset.drawn);
    at(id).value = value; at(id).dispatchEvent(new Event('input'));
    await until(() => Number(image.dataset.drawn) > before);
    return seen(image);
  };
  await until(() => Number(image.dataset.drawn) >= 1);
  const rows = [seen(image), await move('grey', 1), await move('width', 7)];
  const said = at('said').textContent, text = page.body.innerText;
  at('reset').click();
  await until(() => Number(image.dataset.drawn) > rows[2].drawn);
  fetch('/told', {method: 'POST', body: JSON.stringify({rows: [...rows, seen(image)], said, text})});
};
</script>"""


@pytest.fixture
def served():
    """The address of a page with two dials, and a queue of what the browser tells."""
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    from fastapi import Request
    from fastapi.responses import HTMLResponse

    stage = Stage((Dial("grey", 0, 1, 0.2), Dial("width", 1, 9, 4, 1, "size", ("grey", 0.5))),
                  lambda v: np.full((3, int(v["width"]), 3), v["grey"]))
    app, told = application(stage, "runs/toy"), queue.Queue()

    async def listen(request):
        told.put(json.loads(await request.body()))
        return {}

    listen.__annotations__ = {"request": Request}
    app.post("/told")(listen)
    app.get("/probe", response_class=HTMLResponse)(lambda: PROBE)
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    yield f"http://127.0.0.1:{sock.getsockname()[1]}", told
    server.should_exit = True
    thread.join(10)


def test_the_image_follows_a_slider(served, tmp_path):
    address, told = served
    with subprocess.Popen([BROWSER, *FLAGS, f"--user-data-dir={tmp_path}", "--remote-debugging-port=0",
                           f"{address}/probe"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            found = told.get(timeout=60)
        finally:
            browser.kill()
    first, white, wide, again = found["rows"]
    assert first["size"] == [4, 3] and first["pixel"] == [51, 51, 51, 255]
    assert white["size"] == [4, 3] and white["pixel"] == [255, 255, 255, 255]
    assert wide["size"] == [7, 3] and wide["pixel"] == white["pixel"]
    assert [x["pale"] for x in found["rows"]] == [1, 0, 0, 1], "a dial that changes nothing now is pale"
    assert again == {**first, "drawn": again["drawn"]}
    assert "ms" in found["said"] and "runs/toy" in found["text"] and "grey" in found["text"]
