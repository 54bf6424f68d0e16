"""The query of a watch."""

import random

from raycp.cache.options import ReflectorOptions
from raycp.kube.objects import Query


class WatchQuery:
    """One reflector's: its selectors, and how long its watches live."""

    def __init__(self, label_selector: str, field_selector: str, options: ReflectorOptions, rng: random.Random) -> None:
        self.selectors: dict[str, str | int | bool] = {}
        if label_selector:
            self.selectors["labelSelector"] = label_selector
        if field_selector:
            self.selectors["fieldSelector"] = field_selector
        self._options = options
        self._rng = rng

    def seconds(self) -> int:
        """How long the next watch is to live."""
        return max(1, int(self._rng.uniform(*self._options.watch_timeout)))

    def of(self, seconds: int, **more: str | int | bool) -> Query:
        """The query of a watch that is to live for ``seconds``."""
        return {"watch": True, "allowWatchBookmarks": True, "timeoutSeconds": seconds, **self.selectors, **more}
