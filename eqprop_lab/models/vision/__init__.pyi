"""The networks and where each lives; `__init__.py` reads it too (see `lazy`)."""

from eqprop_lab.models.vision.base import VisionModel as VisionModel
from eqprop_lab.models.vision.densenet import DenseNet3 as DenseNet3
from eqprop_lab.models.vision.resnet import (
    ResNetCifar as ResNetCifar,
    resnet8 as resnet8,
    resnet14 as resnet14,
    resnet20 as resnet20,
    resnet32 as resnet32,
    resnet44 as resnet44,
    resnet56 as resnet56,
    resnet110 as resnet110,
)
from eqprop_lab.models.vision.small_cnn import SmallCNN as SmallCNN

__all__: list[str]
