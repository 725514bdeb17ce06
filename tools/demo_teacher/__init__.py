"""The recipe of the demo teacher: a ResNet-18 trunk that learns torchvision's features on procedural images.

adq-edge ships the demo teacher for machines without the user's weights and without a download. It is trained
from random weights to imitate torchvision's published network, and sees no photograph.
`python -m tools.demo_teacher`, started in the root of the repository, trains it again. A faster machine sees
more images of the same stream in the given time.
"""

from __future__ import annotations
