"""The networks that courses teach with, by the names that courses give them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """`network` is a text or a library's name; `input_shape` the pictures it is taught with, (channels, height, width)."""

    network: str
    input_shape: tuple[int, int, int]
    about: str


COURSE = {
    "lenet": Course(
        "conv6,k5 tanh avgpool conv16,k5 tanh avgpool conv120,k5 tanh dense84 tanh",
        (1, 32, 32),
        "LeNet-5, read digits on cheques (LeCun et al. 1998)",
    ),
    "tutorial-6-16": Course(
        "conv6,k5 relu pool conv16,k5 relu pool dense120 relu dense84 relu",
        (3, 32, 32),
        "the CIFAR-10 network of PyTorch's tutorial",
    ),
    "tutorial-16-32-64": Course(
        "conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu",
        (3, 32, 32),
        "three convolutions, each with twice the filters of the one before",
    ),
    "alexnet": Course(  # on one processor: without groups and local response normalization
        "conv96,k11,s4,p2 relu pool,k3,s2 conv256,k5,psame relu pool,k3,s2 conv384,psame relu conv384,psame relu "
        "conv256,psame relu pool,k3,s2 dropout0.5 dense4096 relu dropout0.5 dense4096 relu",
        (3, 224, 224),
        "won ImageNet 2012 and began the present age (Krizhevsky et al. 2012)",
    ),
    "vgg16": Course("vgg16", (3, 224, 224), "nothing but 3x3 convolutions, deep (Simonyan & Zisserman 2014)"),
    "vgg19": Course("vgg19", (3, 224, 224), "the same with three convolutions more"),
    "resnet50": Course("resnet50", (3, 224, 224), "50 layers with a way around every three (He et al. 2015)"),
    "inception_v3": Course(
        "inception_v3", (3, 299, 299), "kernels of several sizes side by side (Szegedy et al. 2015)"
    ),
    "xception": Course("legacy_xception", (3, 299, 299), "every channel filtered by itself, then mixed (Chollet 2016)"),
}
