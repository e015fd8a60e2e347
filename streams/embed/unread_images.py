"""Images of items' last requests, in work or done, that whoever asks next may not know yet.

A request says of each image whether it is known, as far as its writer has read `item-embeddings` back.  What it cannot
have read is found here, and is not fetched a second time.  Easy to get wrong:

* What a request brings along has been read back, and is dropped.
* Only the last request of an item counts: an image that was removed and comes back is fetched anew, in whatever
  haste it does.
* Nothing here is taken for written.  A result is written whole, whatever was written before, so what is taken from
  here is written with it.
* When partitions are lost, all is dropped: somebody else may go on with their items.  Requests that were taken before
  a rebalance may still come here after it, so each says of which generation of the group it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from models.truth_messages import ImageEmbedding

IMAGES_MAX = 20_000
"""Some 20 MB, of which the vectors of pictures seen of late are remembered by their digests anyway."""

Images = dict[str, "asyncio.Future[ImageEmbedding]"]
"""By name; a future is cancelled when nothing comes of the image."""


class UnreadImages:
    """By item, as many as fit; of the items that have not been asked for the longest, none."""

    def __init__(self, images_max: int = IMAGES_MAX) -> None:
        self.images_max = images_max
        self._items: OrderedDict[bytes, Images] = OrderedDict()
        self._count = 0
        self._generation: int | None = None

    def __len__(self) -> int:
        """How many images."""
        return self._count

    def has(self, key: bytes, name: str) -> bool:
        """Whether an image of this name is among those of an item."""
        return name in self._items.get(key, {})

    def take(self, key: bytes, generation: int | None) -> Images:
        """Those of an item, which are forgotten; none that were put in another generation of the group."""
        if generation != self._generation:
            self.clear()
            self._generation = generation
        images = self._items.pop(key, {})
        self._count -= len(images)
        return images

    def put(self, key: bytes, images: Images) -> None:
        """Those of the request that has just taken the item's former ones."""
        assert key not in self._items, "an item's images are taken before others are put"
        if images:
            self._items[key] = images
            self._count += len(images)
        while self._count > self.images_max:
            _, oldest = self._items.popitem(last=False)
            self._count -= len(oldest)

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()
        self._count = 0


async def what_came(image: asyncio.Future[ImageEmbedding] | None) -> ImageEmbedding | None:
    """What came of an image, once it is done; None when there is none, or nothing came of it."""
    if image is None:
        return None
    await asyncio.wait([image])  # not the future itself: whoever is cancelled would cancel it for all
    return None if image.cancelled() else image.result()
