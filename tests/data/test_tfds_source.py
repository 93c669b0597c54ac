"""tfds without TensorFlow: a tiny array_record set written here by hand, and every way it can be missing."""

import io
import json
import pickle
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from genjax.data.sources import open_source
from genjax.errors import UserError

pytest.importorskip("tensorflow_datasets")
X = np.random.default_rng(0).integers(0, 256, (10, 8, 6, 3), np.uint8)


# The little of protobuf's wire format that a tf.train.Example needs: varints and length-delimited fields.

def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def field(tag, data):
    return varint(tag << 3 | 2) + varint(len(data)) + data


def example(image, label):
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    features = {"image": field(1, field(1, png.getvalue())), "label": field(3, field(1, varint(label)))}
    return field(1, b"".join(field(1, field(1, k.encode()) + field(2, v)) for k, v in features.items()))


def shape(*sizes):
    return {"dimensions": [str(s) for s in sizes]}


def write_set(root, name="tiny", file_format="array_record", image_key="image"):
    from array_record.python.array_record_module import ArrayRecordWriter

    root = root / name / "1.0.0"
    root.mkdir(parents=True)
    splits = []
    for split, rows in (("train", range(7)), ("test", range(7, 10))):
        writer = ArrayRecordWriter(str(root / f"{name}-{split}.{file_format}-00000-of-00001"), "group_size:1")
        records = [example(X[i], i % 3) for i in rows]
        for record in records:
            writer.write(record)
        writer.close()
        splits.append({"name": split, "shardLengths": [str(len(records))], "numBytes": str(sum(map(len, records))),
                       "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"})
    feature = "tensorflow_datasets.core.features."
    (root / "features.json").write_text(json.dumps({
        "pythonClassName": feature + "features_dict.FeaturesDict", "featuresDict": {"features": {
            image_key: {"pythonClassName": feature + "image_feature.Image",
                        "image": {"dtype": "uint8", "shape": shape(8, 6, 3), "encodingFormat": "png"}},
            "label": {"pythonClassName": feature + "class_label_feature.ClassLabel",
                      "classLabel": {"numClasses": "3"}}}}}))
    (root / "dataset_info.json").write_text(json.dumps({
        "name": name, "version": "1.0.0", "fileFormat": file_format, "splits": splits}))
    return root


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No name resolves, and no proxy is set: as on a machine without a network."""
    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def fails(spec, split="train", **options):
    with pytest.raises(UserError) as info:
        open_source(spec, split, **options)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_reads_array_record_without_tensorflow(tmp_path):
    write_set(tmp_path)
    train, test = (open_source("tfds:tiny", s, data_dir=str(tmp_path)) for s in ("train", "test"))
    assert len(train) == 7 and len(test) == 3 and train.labelled and len(train.classes) == 3
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0] == [train[i]["label"] for i in range(7)]
    for i in (6, 0, 3):
        element = train[i]
        np.testing.assert_array_equal(element["image"], X[i])
        assert element["label"] == i % 3 and element["label"].dtype == np.int32
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(test))[1]["image"], X[8])
    half = open_source("tfds:tiny", "train[:3]", data_dir=str(tmp_path))
    assert len(half) == 3
    line = train.summary().line()
    assert line.startswith(f"7 pictures of {X.shape[1]}x{X.shape[2]}") and f"split train, from {tmp_path}/tiny/" in line
    assert [n for _, n in train.summary().classes] == [3, 2, 2]
    names = [n for n, _ in train.listing()]
    assert names[0] == "tfds:tiny (train) 7" and "dataset_info.json" in names
    assert "tensorflow" not in sys.modules


def test_unknown_names_splits_and_options(tmp_path):
    write_set(tmp_path)
    where = str(tmp_path)
    assert "'mnist'" in fails("tfds:mnits", data_dir=where)
    assert "no such set" in fails("tfds:qqqqqqqq", data_dir=where)
    message = fails("tfds:tiny", "trian", data_dir=where)
    assert "'train'" in message and "tfds:tiny" in message
    assert "'data_dir'" in fails("tfds:tiny", datadir=where)


def test_not_prepared_and_no_network(tmp_path):
    message = fails("tfds:mnist", data_dir=str(tmp_path))
    assert "no network" in message and "array_record" in message and str(tmp_path) in message
    assert "download=True" in fails("tfds:mnist", data_dir=str(tmp_path), download=False)


def test_a_download_that_breaks(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setenv("https_proxy", "http://localhost:9")  # then the network is not asked about first
    for error, part in ((ConnectionError("HTTPSConnectionPool\nmore"), "HTTPSConnectionPool"),
                        (ModuleNotFoundError("No module named 'tensorflow'"), "missing package")):
        def fail(self, error=error, **kwargs):
            raise error

        monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
        assert part in fails("tfds:mnist", data_dir=str(tmp_path))


def test_prepared_as_tfrecord_only(tmp_path):
    write_set(tmp_path, file_format="tfrecord")
    message = fails("tfds:tiny", data_dir=str(tmp_path))
    assert "tfrecord" in message and "array_record" in message


def test_a_set_without_images(tmp_path):
    write_set(tmp_path, image_key="picture")
    assert "picture" in fails("tfds:tiny", data_dir=str(tmp_path))


def test_damaged_metadata(tmp_path):
    root = write_set(tmp_path)
    (root / "features.json").write_text("{")
    assert "tiny" in fails("tfds:tiny", data_dir=str(tmp_path))


def test_missing_shard(tmp_path):
    root = write_set(tmp_path)
    next(root.glob("*train.array_record*")).unlink()
    with pytest.raises(UserError, match="tiny"):
        open_source("tfds:tiny", data_dir=str(tmp_path))[0]
