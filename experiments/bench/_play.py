"""The page of `play` served in this process, and asked as a browser asks."""

import contextlib
import http.client
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from genjax.core.play import listening, serving

_SECONDS = 600.0  # the first picture compiles


@contextlib.contextmanager
def served(app: Any) -> Iterator[Callable[[Mapping[str, float]], bytes]]:
    """Serves an application at a free port; yields a function from all dials' values to the PNG, by one connection.

    Raises:
      UserError: uvicorn is not installed.
    """
    server, sock = serving(app), listening("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", sock.getsockname()[1], timeout=_SECONDS)

    def get(values: Mapping[str, float]) -> bytes:
        connection.request("GET", "/image?" + urllib.parse.urlencode(values))
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(body.decode(errors="replace"))
        return body

    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield get
    finally:
        connection.close()
        server.should_exit = True
        thread.join()
