"""The labels of a data set, over all its pictures: whether networks with classes can use them, how often each occurs.

A source has its labels as `labels`, [N] whole numbers in the order of its pictures (None, or no such attribute, where
it has none or would have to make its pictures to tell).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.data.summary import summarize
from genjax.errors import UserError


def check(source: Any, names: tuple[str, ...], classes: Mapping[str, int], unseen: bool = False) -> None:
    """Refuses labels that are not the classes of networks.

    Args:
      source: of pictures. One without `labels` is judged by `names`.
      names: of its classes; () where they have none.
      classes: network -> how many classes it has.
      unseen: whether a network may have classes that no picture has.

    Raises:
      UserError: no labels (with the source's reason), negative labels, labels beyond a network's
        classes, and without `unseen` classes that no picture has.
    """
    if not getattr(source, "labelled", True):
        why = "; ".join(n for n in summarize(source).notes if "class" in n or "label" in n)
        raise UserError("conditional training needs labels; choose a labelled config.data.source"
                        + (f" ({source.name}: {why})" if why else f", {source.name} has none"))
    labels = getattr(source, "labels", None)
    if labels is not None:
        _no_negative(source, labels)
    found = len(names) if labels is None else int(np.max(labels)) + 1
    fit = " and ".join(f"config.task.{network}.classes={found}" for network in classes)
    fit = f"set {fit} (the configs' structural argument classes={found})"
    for network, most in classes.items():
        if found > most:
            raise UserError(f"config.data has the labels 0 to {found - 1}, the {network} {most} classes; {fit}")
    if unseen or not found:
        return
    for network, most in classes.items():
        if found < most:
            raise UserError(f"config.data has the labels 0 to {found - 1}, the {network} {most} classes, of which"
                            f" {most - found} would never be seen; {fit}, or config.task.unseen_classes=True to train"
                            " them so")
    if labels is not None and len(missing := np.flatnonzero(np.bincount(labels, minlength=found) == 0)):
        raise UserError(f"config.data has the labels 0 to {found - 1}, but no picture of class {missing[0]}"
                        f" ({len(missing)} such classes); number the labels without gaps, or set"
                        " config.task.unseen_classes=True to train networks that never see them")


def counts(source: Any, classes: int, names: tuple[str, ...] = ()) -> np.ndarray | None:
    """How many pictures a source has of each class, [classes] int32; None where it does not have `labels`.

    Args:
      source: of pictures, such as another split than that of training.
      classes: of the networks.
      names: of the training data's classes. A source that numbers the same names otherwise is counted by name.

    Raises:
      UserError: a label, or a name, that is none of the classes.
    """
    labels = getattr(source, "labels", None)
    if labels is None:
        return None
    _no_negative(source, labels)
    theirs = tuple(getattr(source, "classes", ()))
    if names and theirs and theirs != tuple(names):
        present = np.unique(labels).tolist()
        if strange := [theirs[i] for i in present if theirs[i] not in names]:
            known = f"{', '.join(names[:5])}{' …' * (len(names) > 5)}"
            raise UserError(f"{source.name} has the class {strange[0]!r}, which is none of the training data's"
                            f" ({known}); compare with a split of those classes")
        labels = np.array([names.index(c) if c in names else -1 for c in theirs])[labels]
    if (found := int(np.max(labels))) >= classes:
        raise UserError(f"{source.name} has the label {found}, and the generator the classes 0 to {classes - 1}; give"
                        " pictures of those classes")
    return np.bincount(labels, minlength=classes).astype(np.int32)


def _no_negative(source: Any, labels: np.ndarray) -> None:
    if np.min(labels) < 0:
        i = int(np.argmax(np.asarray(labels) < 0))
        raise UserError(f"{source.name} has the label {labels[i]} (picture {i}, counted from 0); classes are numbered"
                        " from 0 on: give it a class, leave it out, or train without classes")
