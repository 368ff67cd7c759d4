"""Data sets by name, each with a fixed train / validation / test split.

`digits` (8x8 images, shipped with scikit-learn) is the default and needs no download. The
torchvision sets hold out the last images of the published training set for validation; any folder
of images is a data set too, and so is what a function with `@register_dataset` above it returns.
Texts have tokens of one vocabulary in their splits: `get_lm_dataset`, or `read_text` for all three.
Recipes are chosen on `validation`; `test` is looked at once.
"""

from __future__ import annotations

from eqprop_lab.datasets import built_in as built_in, image_folder as image_folder
from eqprop_lab.datasets.ngrams import ngram_loss
from eqprop_lab.datasets.registry import NAMES, build_dataset, register_dataset
from eqprop_lab.datasets.splits import Batches, DataSet, DataUnavailable, Split
from eqprop_lab.datasets.text import TextData, get_lm_dataset, read_text
from eqprop_lab.datasets.torchvision_sets import VISION, data_dir, load_cifar_10
from eqprop_lab.datasets.vocabulary import Vocabulary

__all__ = [
    "Batches",
    "DataSet",
    "DataUnavailable",
    "NAMES",
    "Split",
    "TextData",
    "VISION",
    "Vocabulary",
    "build_dataset",
    "data_dir",
    "get_lm_dataset",
    "load_cifar_10",
    "ngram_loss",
    "read_text",
    "register_dataset",
]
