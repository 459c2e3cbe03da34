"""Builders that take the number of classes by any name, by position or not at all, and what they may not return."""

from functools import partial
from types import SimpleNamespace

import pytest
from torch import nn

import famkd
from famkd.errors import UserError
from famkd.models import build_model


class Net(nn.Module):
    """Remembers what it was built with."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3, *, width: int = 4):
        super().__init__()
        self.told = (num_classes, in_chans, width)


class Positional(Net):
    def __init__(self, n, /):
        super().__init__(n)


class Keyword(Net):
    def __init__(self, *, num_classes):
        super().__init__(num_classes)


class Inherits(Net):
    """Its signature is that of its parent."""


def by_kwargs(**options):
    return Net(**options)


def by_args(*args):
    return Net(*args)


def by_config(width=8, **options):
    return Net(width=width, **options)


BUILDERS = {  # builder -> classes, channels and width that it is told, for 7 classes and images of 2 channels
    "class": (Net, (7, 2, 4)),
    "class that inherits its arguments": (Inherits, (7, 2, 4)),
    "position only": (Positional, (7, 3, 4)),
    "keyword only": (Keyword, (7, 3, 4)),
    "any name": (lambda k: Net(k), (7, 3, 4)),
    "classes": (lambda classes: Net(classes), (7, 3, 4)),
    "n_classes": (lambda n_classes=100: Net(n_classes), (7, 3, 4)),
    "num_labels": (lambda depth=3, num_labels=2: Net(num_labels), (7, 3, 4)),
    "out_features": (lambda out_features: Net(out_features), (7, 3, 4)),
    "class_num after others": (lambda in_channels=1, width=4, class_num=10: Net(class_num, in_channels), (7, 2, 4)),
    "channels first": (lambda in_channels, num_classes: Net(num_classes, in_channels), (7, 2, 4)),
    "channels first, any name": (lambda in_ch, k: Net(k, in_ch), (7, 2, 4)),
    "kwargs": (by_kwargs, (7, 3, 4)),
    "args": (by_args, (7, 3, 4)),
    "kwargs after an option": (by_config, (7, 3, 8)),
    "partial": (partial(Net, width=9), (7, 2, 9)),
    "partial with classes": (partial(Net, num_classes=10), (7, 2, 4)),
    "nothing": (lambda: Net(5), (5, 3, 4)),
    "an option that is not the classes": (lambda width=6: Net(5, width=width), (5, 3, 6)),
    "a method": (SimpleNamespace(make=lambda num_classes: Net(num_classes)).make, (7, 3, 4)),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_builders(name, monkeypatch):
    builder, told = BUILDERS[name]
    monkeypatch.setitem(famkd.MODELS, "mine", builder)
    assert build_model("mine", 7, channels=2).told == told


def fails(num_classes):
    raise KeyError("no such depth")


def returns_an_error(num_classes):
    raise UserError("Pass another width.")


REFUSED = {
    "a network": (Net(), r"'mine' is a network, not a builder: register a function that builds it"),
    "a word": ("resnet18", r"'mine' is a str: register a function that builds it"),
    "returns a tuple": (lambda n: (Net(n), None), r"builder of 'mine' returned a tuple: it must return an nn\.Module"),
    "returns a function": (lambda n: lambda x: x, r"returned a function: it must return an nn\.Module"),
    "returns nothing": (lambda n: None, r"returned a NoneType: it must"),
    "needs more": (lambda depth, num_classes, width: Net(), r"needs depth and width, which famkd does not know"),
    "needs more, any name": (lambda n, depth: Net(), r"needs depth, which famkd does not know: give a default"),
    "fails": (fails, r"builder of 'mine' failed for 7 classes: KeyError: 'no such depth'\."),
    "says why": (returns_an_error, r"Pass another width\."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_builders_that_are_refused(name, monkeypatch):
    builder, sentence = REFUSED[name]
    monkeypatch.setitem(famkd.MODELS, "mine", builder)
    with pytest.raises(UserError, match=sentence):
        build_model("mine", 7)
