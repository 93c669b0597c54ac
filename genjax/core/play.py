"""`play RUN`: a local page with a dial for everything a run's task can be steered by, and the image beside them.

A task's `stage(variables)` returns a `Stage`: its dials, and a function from their values to a picture. The page asks
for one picture at a time and for the newest values only, so it follows as fast as pictures can be drawn.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from genjax.core.control import instead
from genjax.core.snapshot import OpenedRun
from genjax.errors import UserError, unknown
from genjax.viz.grid import png_bytes
from genjax.viz.play_page import page


@dataclasses.dataclass(frozen=True)
class Dial:
    """One slider.

    Attributes:
      name: what the task calls it.
      low, high: its ends.
      value: where it stands at first.
      step: between its places; 1 for whole numbers.
      group: the heading it stands under.
      needs: (another dial, a value): while that one stands lower, this one changes nothing, and is shown pale.
    """

    name: str
    low: float
    high: float
    value: float
    step: float = 0.01
    group: str = ""
    needs: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Stage:
    """What `play` shows.

    Attributes:
      dials: the sliders, in the page's order.
      draw: their values by name -> a picture [H,W,C] in [0,1].
    """

    dials: tuple[Dial, ...]
    draw: Callable[[Mapping[str, float]], np.ndarray]

    def values(self, given: Mapping[str, str]) -> dict[str, float]:
        """All values, those given as text within their ends.

        Raises:
          UserError: an unknown dial, or no number.
        """
        known = {d.name: d for d in self.dials}
        out = {name: d.value for name, d in known.items()}
        for name, text in given.items():
            if name not in known:
                raise unknown("dial", name, known)
            try:
                value = float(text)
            except ValueError:
                raise UserError(f"dial {name} takes a number, got {text!r}") from None
            if not value == value:
                raise UserError(f"dial {name} takes a number, got {text!r}")
            out[name] = min(max(value, known[name].low), known[name].high)
        return out


def open_stage(run: str, snapshot: str | None = None) -> Stage:
    """The stage of a run's newest snapshot or checkpoint.

    Raises:
      UserError: no run or snapshot, or a task without a stage.
    """
    opened = OpenedRun(run, snapshot)
    variables, task = opened.variables, opened.task
    stage = task.stage(variables)
    if stage is None:
        raise UserError(f"{type(task).__name__} has nothing to play with{instead(opened)}")
    return stage


def application(stage: Stage, title: str) -> Any:
    """The page as an ASGI application: `/` the page, `/image?dial=value` a PNG with the seconds it took in a header.

    Raises:
      UserError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import HTMLResponse, PlainTextResponse, Response
    except ImportError:
        raise UserError("play needs FastAPI: pip install -r requirements-play.txt") from None
    app = FastAPI(title=title)
    dials = json.dumps([dataclasses.asdict(d) for d in stage.dials])

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page(title, dials)

    def image(request):
        began = time.perf_counter()
        try:
            values = stage.values(dict(request.query_params))
        except UserError as e:
            return PlainTextResponse(str(e), status_code=400)
        png = png_bytes(stage.draw(values))
        headers = {"X-Seconds": f"{time.perf_counter() - began:.4f}", "Cache-Control": "no-store"}
        return Response(png, media_type="image/png", headers=headers)

    image.__annotations__ = {"request": Request}  # FastAPI reads it; the class is not there before its import
    app.get("/image")(image)
    return app


def serve(run: str, snapshot: str | None, host: str, port: int, tell: Callable[[str], None] = print) -> None:
    """Serves a run's page until it is interrupted."""
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: a port lies between 0 and 65535")
    stage = open_stage(run, snapshot)
    server = serving(application(stage, run))
    tell("compiling; the page's address comes next")
    stage.draw(stage.values({}))  # compiled before anybody waits for it
    sock = listening(host, port)
    tell(f"http://{host}:{sock.getsockname()[1]}/ (Ctrl-C ends it)")
    server.run([sock])


def serving(app: Any) -> Any:
    """A uvicorn server of an application; `run([socket])` serves it.

    Raises:
      UserError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise UserError("play needs uvicorn: pip install -r requirements-play.txt") from None
    return uvicorn.Server(uvicorn.Config(app, log_level="warning"))


def listening(host: str, port: int) -> Any:
    """A socket that listens there; port 0 for any free one.

    Raises:
      UserError: it cannot.
    """
    import socket

    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(info[0], info[1])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(info[4])
        sock.listen()
    except OSError as e:
        raise UserError(f"cannot listen on {host}:{port}: {e.strerror or e}; choose another --port or --host") from None
    return sock
