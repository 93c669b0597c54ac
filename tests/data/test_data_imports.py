"""Importing the data room is cheap: what is heavy comes when it is first used, TensorFlow never."""

import subprocess
import sys

HEAVY = ("tensorflow", "tensorflow_datasets", "sklearn", "skimage", "grain", "jax", "flax", "torch", "matplotlib")


def imported(root, code):
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"],
        cwd=root, capture_output=True, text=True, check=True)
    return out.stdout.split()


def test_import_is_light(root):
    modules = "images, photos, masks, degradations, sources, pipeline, restoration"
    assert imported(root, f"from genjax.data import {modules}, source_tfds") == []


def test_photographs_need_no_scikit_image_import(root):
    assert imported(root, "from genjax.data import images; images.load_image('builtin:photos/cat')") == []


def test_training_data_never_imports_tensorflow(root):
    code = "from genjax.data.pipeline import Pipeline; Pipeline(batch_size=2).batch(0)"
    assert not {"tensorflow", "tensorflow_datasets", "torch", "skimage"} & set(imported(root, code))
