"""`play`: values from text, the page's answers, and mistakes in one line."""

import io

import numpy as np
import pytest
from PIL import Image

import launch
from genjax.core.play import Dial, Stage, application
from genjax.errors import UserError

STAGE = Stage((Dial("grey", 0, 1, 0.5), Dial("width", 1, 9, 4, 1, "size")),
              lambda v: np.full((3, int(v["width"]), 3), v["grey"]))


def test_values_are_those_given_within_their_ends():
    assert STAGE.values({}) == {"grey": 0.5, "width": 4}
    assert STAGE.values({"grey": "7", "width": "2"}) == {"grey": 1, "width": 2}
    for given, says in (({"gray": "1"}, "did you mean 'grey'"), ({"grey": "x"}, "takes a number"),
                        ({"grey": "nan"}, "takes a number")):
        with pytest.raises(UserError, match=says):
            STAGE.values(given)


def test_the_page_and_its_pictures():
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    client = TestClient(application(STAGE, "a <run>"))
    page = client.get("/").text
    assert "a &lt;run&gt;" in page and '"name": "grey"' in page and "http://" not in page and "https://" not in page
    answer = client.get("/image", params={"grey": "1", "width": "5"})
    assert answer.status_code == 200 and float(answer.headers["X-Seconds"]) >= 0
    x = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert x.shape[:2] == (3, 5) and (x == 255).all()
    wrong = client.get("/image", params={"gray": "1"})
    assert wrong.status_code == 400 and "did you mean 'grey'" in wrong.text


def test_a_run_that_is_not_there(capsys, tmp_path):
    pytest.importorskip("uvicorn")
    assert launch.main(["play", "--run", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert launch.main(["play", "--run", str(tmp_path), "--port", "99999"]) == 2
