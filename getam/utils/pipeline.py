"""Stages of work that run at once, in threads, on a bounded number of items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple


class Stage(NamedTuple):
    """One step of the work on an item.

    Attributes:
        function: takes the item, or what the stage before has made of it.
        threads: items that are in it at once.
        bound: items that have been started and have not left it yet, at most; at least `threads` for all to work.
    """

    function: Callable[[Any], Any]
    threads: int
    bound: int


def pipelined(items: Iterable[Any], *stages: Stage) -> Iterator[Any]:
    """Yields what the last stage makes of each item, in the order of the items.

    Items are made in the caller's thread, whose thread-local settings (such as torch's inference mode and autocast)
    they keep; meanwhile all stages work on earlier ones. The next item is made once every stage's bound allows it.

    An error of the items or of a stage ends the iteration, as do an exception in the caller (Ctrl-C) and the end of
    the iterator's life: the calls that are running come to their end first, all others are cancelled, and no thread
    stays.
    """
    pools = [ThreadPoolExecutor(stage.threads) for stage in stages]
    running: list[deque[Future]] = [deque() for _ in stages]
    source = iter(items)
    try:
        while True:
            for stage, futures in zip(stages, running, strict=True):
                while futures and (len(futures) >= stage.bound or futures[0].done()):
                    result = futures.popleft().result()
                    if futures is running[-1]:
                        yield result
            try:
                item = next(source)
            except StopIteration:
                break
            for stage, pool, futures in zip(stages, pools, running, strict=True):
                item = pool.submit(_after, stage.function, item)
                futures.append(item)
            del item  # the bounds alone say what is kept
        while running[-1]:
            yield running[-1].popleft().result()
    finally:
        # In the order of the work: a stage whose item is cancelled before it is not left waiting for it.
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _after(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item.result() if isinstance(item, Future) else item)
