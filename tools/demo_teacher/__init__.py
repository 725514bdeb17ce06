"""The demo teacher: a ResNet-18 trunk trained on procedural images to imitate torchvision's ResNet-18.

It stands in where neither the user's weights nor a download are at hand. Its weights start from chance and no
photograph has a part in the training; what the features should be is told by torchvision's published
network. `python -m tools.demo_teacher` remakes it: the same stream of images, of which a
faster machine sees more in the given time.
"""

from __future__ import annotations
