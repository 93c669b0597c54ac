"""Reports: one file that needs nothing else, everything escaped, verdicts coloured."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from genjax.errors import UserError
from genjax.viz.grid import Panel, png_bytes
from genjax.viz.report import Report, number

VOID = {"meta", "img", "br", "link", "input"}


class Checker(HTMLParser):
    """Every element closed in order; collects tags, attributes and texts."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag):
        return [a for t, a in self.tags if t == tag]


EVIL = "<script>alert('x & \"y\"')</script>"


def full():
    image = np.random.default_rng(0).random((8, 10, 3))
    return (
        Report(EVIL, subtitle=EVIL, status=EVIL, footer=EVIL)
        .section(EVIL).text(f"one `{EVIL}`\n\ntwo {EVIL}").facts({EVIL: EVIL, "steps": 3000})
        .section(EVIL).table([{EVIL: EVIL, "n": 1.5}, {"n": None}], title=EVIL).table([[EVIL, 2]])
        .images([Panel(image, EVIL, EVIL), image, png_bytes(image)], title=EVIL).images([image], columns=1)
        .curves({"series": {EVIL: [1, 2, 3]}, "title": EVIL, "ylabel": EVIL}, {"b": [1, 2]})
        .code(EVIL, title=EVIL).code(EVIL, title=EVIL, folded=True)
        .diff([(EVIL, EVIL, None), ("k", 1, 2.5)])
        .rows([{"case": EVIL, "metric": EVIL, "got": 1.0, "expected": 2.0, "tolerance": 0.5, "pass": False,
                "source": EVIL, "device": EVIL}], title=EVIL)
    )


def test_everything_is_escaped_and_well_formed():
    page = full().html()
    checker = Checker(page)
    assert "<script" not in page.lower() and not checker.named("script")
    assert sum(EVIL in w for w in checker.words) >= 20
    assert not any(name.startswith("on") for _, a in checker.tags for name in a)
    ids = [a["id"] for t, a in checker.tags if t == "h2"]
    assert len(ids) == len(set(ids)) == 2
    assert [a["href"] for a in checker.named("a")] == [f"#{i}" for i in ids]


def test_nothing_is_loaded_from_elsewhere():
    page = full().html()
    checker = Checker(page)
    for _, attributes in checker.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), value
    assert not re.search(r"url\((?!#)", page) and "@import" not in page
    assert any("default-src 'none'" in (a.get("content") or "") for a in checker.named("meta"))
    assert "prefers-color-scheme: dark" in page


def test_images_are_the_given_pixels_with_their_size():
    image = np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8)
    img = Checker(Report("r").images([Panel(image, "name", "24.3 dB")]).html()).named("img")[0]
    png = base64.b64decode(img["src"].split(",", 1)[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)
    assert (img["width"], img["height"], img["alt"], img["class"]) == ("10", "8", "name 24.3 dB", "tiny")
    with pytest.raises(UserError, match="PNG"):
        Report("r").images([b"not a png"])


def test_rows_count_and_colour_verdicts():
    row = {"metric": "PSNR", "got": 30.0, "expected": 30.4, "tolerance": 0.6, "source": "§1.5"}
    rows = [{"case": "good", "pass": True, **row}, {"case": "bad", "pass": np.bool_(False), **row},
            {"case": "open", "pass": None, **row}]
    page = Report("r").rows(rows).html()
    checker = Checker(page)
    chips = [a["class"].split()[1:] for a in checker.named("span")]
    assert chips == [["bad"], ["good"], ["bad"], []]
    assert {"1 of 2 pass", "pass", "fail", "not judged", "± 0.6"} <= set(checker.words)
    assert [a.get("class") for a in checker.named("tr")] == [None, None, "bad", None]
    assert "2 of 2 pass" in Report("r").rows([rows[0], rows[0]]).html()


def test_numeric_columns_stand_right_and_numbers_are_short():
    checker = Checker(Report("r").table([["a", 0.123456], ["b", None]], header=("name", "value")).html())
    assert [a.get("class") for a in checker.named("td")] == [None, "number"] * 2
    assert "0.1235" in checker.words
    values = (None, True, 12345.678, 1e-7, float("nan"), float("-inf"), np.float32(0.5), 3000, "x")
    assert [number(v) for v in values] == ["–", "yes", "12346", "1e-07", "NaN", "−∞", "0.5", "3000", "x"]
    with pytest.raises(UserError, match="cells"):
        Report("r").table([[1, 2, 3]], header=("a", "b"))


def test_empty_parts_and_save(tmp_path):
    page = Report("r").table([]).images([]).facts({}).diff([]).rows([]).text("")
    Checker(page.html())
    path = page.save(tmp_path / "a" / "report.html")
    assert path.read_text(encoding="utf-8") == page.html()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        page.save(tmp_path / "file" / "report.html")
