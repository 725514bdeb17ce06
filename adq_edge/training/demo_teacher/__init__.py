"""The demo teacher: a ResNet-18 trunk trained from scratch on procedural pictures.

It stands in where neither the user's weights nor a download are at hand. No photograph and no other
network had a part in it. `python -m adq_edge.training.demo_teacher --minutes 32 --seed 0` remakes it: the
same stream of pictures, of which a faster machine sees more in the given time.
"""

from __future__ import annotations
