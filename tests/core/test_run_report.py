"""A run's page: the command, the notebook, the input, the time of all starts, and what `eval` found later."""

import argparse
import json
import re

import numpy as np
import pytest

import launch
from genjax.core import made_by, report, snapshot
from genjax.verbs import eval as eval_verb
from genjax.viz.grid import Panel
from genjax.viz.report import Report
from genjax.viz.video import save_film


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """report.html of a restoration, evaluated after it was trained."""
    run = tmp_path_factory.mktemp("page") / "run"
    assert launch.main(["train", "--config", "dip/denoise", "--smoke", "--workdir", str(run), "--quiet"]) == 0
    kept = json.loads((run / made_by.FILE).read_text())
    kept["legs"] = [{"command": "c1", "began": 1.0, "seconds": 1000.0}, {"command": "c2", "began": 2.0, "seconds": 5.0}]
    (run / made_by.FILE).write_text(json.dumps(kept))
    assert launch.main(["eval", str(run)]) == 0
    return (run / "report.html").read_text()


def test_the_page_says_how_the_run_was_made(page):
    assert "python launch.py train --config dip/denoise --smoke" in page
    assert "section 3.1 and its supplement" in page  # the docstring's second paragraph
    assert re.search(r"seconds in 2 starts</dt><dd[^>]*>1005<", page)


def test_the_page_shows_the_input_and_what_eval_found(page):
    section = page[page.index('id="input"'):]
    assert section.index("observed") < section.index("clean") < section.index("<h2")
    assert "Evaluated afterwards" in page and "psnr" in page[page.index('id="evaluated-afterwards"'):][:3000]


def test_the_result_is_first_and_large(page):
    shown = re.findall(r'<figure( class="whole")?><img[^>]*><figcaption>(\w+)\.png<', page[page.index('id="outputs"'):])
    assert shown[0] == (' class="whole"', "result") and len(shown) > 3
    assert not any(large for large, _ in shown[1:]) and [name for _, name in shown].count("result") == 1
    tiles = page[page.index('class="facts"'):]
    assert tiles.index("<dt>psnr_result<") < tiles.index("<dt>psnr_last<")


def test_what_eval_found_is_a_row_for_each_metric(page):
    table = page[page.index('id="evaluated-afterwards"'):].partition("</table>")[0]
    assert re.findall(r"<th(?: [^>]*)?>([^<]*)<", table) == ["metric", "value", "step", "snapshot"]
    assert table.index("<td>psnr_result<") < table.index("<td>psnr_last<")


def test_eval_prints_four_digits_and_writes_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(snapshot, "evaluate", lambda *a: {"step": 12345, "psnr_result": 30.123456789})
    monkeypatch.setattr(report, "write", lambda run: None)
    given = argparse.Namespace(run="run", snapshot=None, metrics=None, json=str(tmp_path / "row.json"))
    assert eval_verb.run(given, []) == 0
    assert re.findall(r"^(\w+) +(\S+)$", capsys.readouterr().out, re.M) == [("step", "12345"), ("psnr_result", "30.12")]
    assert json.loads((tmp_path / "row.json").read_text())["psnr_result"] == 30.123456789


def test_small_sheets_are_enlarged_with_hard_pixels():
    html = Report("x").images([np.zeros((70, 70, 3))], columns=1).html()
    assert 'class="tiny" style="width: 630px"' in html
    assert "style=" not in re.search("<img[^>]*>", Report("x").images([np.zeros((700, 70, 3))], columns=1).html())[0]


def test_films_are_in_the_page(tmp_path):
    film = save_film(tmp_path / "walk", np.zeros((3, 8, 6, 3), np.float32))
    if film.suffix != ".gif":
        pytest.skip("films are MP4 here")
    html = Report("x").images([Panel(film.read_bytes(), caption="walk.gif")], columns=1).html()
    assert "data:image/gif;base64" in html and 'height="8"' in html


def test_judgements_are_words():
    row = {"case": "a", "metric": "m", "got": 1.0, "expected": 2.0, "tolerance": 0.0, "relation": "at_least",
           "pass": None}
    html = Report("x").rows([row]).html()
    assert "at_least" not in html and "± 0" not in html and "does not pass or fail" in html
