"""Controls: the options of a function as a command line's, what is written, one line for each mistake."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import launch
from genjax.core import config as config_lib
from genjax.core.play import open_stage
from genjax.core.task import TaskBase
from genjax.core.train import train
from genjax.errors import UserError
from genjax.viz import video
from tests.core.toy import ToyTask


def brightness(variables, rng, *, n: int = 2, levels: tuple[float, ...] = (0.0, 1.0), curve: str = "line"):
    """Squares of rising brightness.

    More of it.
    """
    x = np.broadcast_to(np.asarray(levels, np.float32)[:, None, None, None], (len(levels), 4, 4 * n, 1))
    return {"squares": x[0], "film": x} if curve == "line" else {"seed": np.asarray(jax.random.uniform(rng, (1, 1, 1)))}


def follow(variables, rng, *, image: str):
    """Needs a picture."""
    return {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("control") / "toy"
    train(config_lib.load("tests/core/toy_config.py:steps=2"), str(path), quiet=True)
    return path


@pytest.fixture
def steered(monkeypatch):
    monkeypatch.setattr(ToyTask, "controls", lambda self: {"brightness": brightness, "follow": follow})
    monkeypatch.setattr(ToyTask, "withheld", lambda self: {"tilt": "it stands"})


def sample(capsys, *argv, code=0):
    capsys.readouterr()
    assert launch.main(["sample", *map(str, argv)]) == code
    out, err = capsys.readouterr()
    assert bool(err) == bool(code) and err.count("\n") <= 1
    return err if code else out


def test_without_a_name_the_controls_are_listed(capsys, run, steered):
    out = sample(capsys, run, "--control")
    assert "brightness      Squares of rising brightness.\n" in out.replace("brightness     ", "brightness      ")
    assert "n=2 levels=0.0,1.0 curve=line" in out and "image=VALUE" in out and "More" not in out


@pytest.mark.parametrize("ffmpeg", [False, True])
def test_pictures_and_films_are_written(capsys, run, steered, tmp_path, monkeypatch, ffmpeg):
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: object() if ffmpeg else None)
    monkeypatch.setattr(video, "_mp4", lambda path, frames, fps: path.write_bytes(bytes(len(frames))))
    out = tmp_path / "out"
    (tmp_path / "out").mkdir()
    (out / ("film.gif" if ffmpeg else "film.mp4")).write_text("of an earlier call")
    film = out / ("film.mp4" if ffmpeg else "film.gif")
    argv = ("--control", "brightness", "--control.levels", "0.5,1,0", "-n", 3, "--out", out)
    assert sample(capsys, run, *argv).split() == [str(out / "squares.png"), str(film)]
    assert sorted(p.name for p in out.iterdir()) == sorted(["squares.png", film.name])
    x = np.asarray(Image.open(out / "squares.png"))
    assert x.shape[:2] == (4, 12) and abs(x.astype(int) - 127).max() <= 1
    if ffmpeg:
        assert film.read_bytes() == bytes(3)
    else:
        with Image.open(film) as gif:
            assert gif.n_frames == 3 and gif.size == (12, 4)
    (seeded,) = sample(capsys, run, "--control", "brightness", "--control.curve=x", "--seed", 7).split()
    assert seeded == str(run / "samples" / "brightness_seed7" / "seed.png")
    shutil.rmtree(run / "samples" / "brightness_seed7")


@pytest.mark.parametrize(("argv", "says"), [
    (("--control", "tilt"), "--control tilt has nothing to do: it stands; there are brightness, follow"),
    (("--control", "brigthness"), "unknown control of ToyTask 'brigthness'; did you mean 'brightness'?"),
    (("--control", "brightness", "--control.level=3"), "did you mean 'levels'?"),
    (("--control", "brightness", "--control.n=x"), "--control.n must be int, got 'x'"),
    (("--control", "brightness", "-n", "0"), "-n must be at least 1"),
    (("--control", "brightness", "--out", "a.png"), "name a folder"),
    (("--control", "brightness", "--control.levels"), "has no value"),
    (("--control", "brightness", "--classes", "1"), "--classes"),
    (("--control", "follow"), "--control follow needs --control.image=VALUE"),
    (("--control", "follow", "-n", "3"), "--control follow takes no -n"),
    (("--control.levels=3",), "belongs to a control")])
def test_mistakes_are_one_line(capsys, run, steered, argv, says):
    assert says in sample(capsys, run, *argv, code=2)


def test_a_task_without_controls_says_so_and_what_there_is(capsys, run, monkeypatch):
    """`sample` is named where the task draws samples alone."""
    def says(first, what):
        with pytest.raises(UserError) as e:
            open_stage(str(run))
        found = sample(capsys, run, "--control", "walk", code=2), str(e.value)
        for line, begins in zip(found, ("ToyTask has no controls", "ToyTask has nothing to play with"), strict=True):
            assert begins + first in line and what in line
        return found

    says("; `sample", "` draws its samples")
    monkeypatch.setattr(ToyTask, "sample", TaskBase.sample)
    for line in says("; its pictures are in", str(run / "outputs")):
        assert "sample" not in line
    monkeypatch.setattr(ToyTask, "results", TaskBase.results)
    for line in says("", ""):
        assert ";" not in line
