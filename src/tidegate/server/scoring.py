"""Requests that arrive together are scored together, by one thread beside the event loop.

Nothing waits for company: an idle scorer takes a text at once, and what arrives while it is at work
is the next batch. The kernels compute without the interpreter lock, so that the event loop reads
and answers meanwhile. Explanations have a thread of their own: they are a thousand times as dear,
and predictions must not stand behind them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tidegate import answers
from tidegate.server.departures import Receive, answer
from tidegate.server.failures import overloaded

if TYPE_CHECKING:
    from tidegate.estimator import TextClassifier
    from tidegate.server.metrics import Metrics

Answer = TypeVar("Answer")
_BATCH_CHARACTERS = 1_000_000  # long texts make smaller batches, so that short ones come through


@dataclass(eq=False)
class _Job:
    """One request: its texts, and the results of those that are scored already."""

    classifier: TextClassifier
    texts: Sequence[str]
    future: asyncio.Future[list[dict[str, Any]]]
    results: list[dict[str, Any]] = field(default_factory=list)
    taken: int = 0  # texts that were given to the scorer


@dataclass(frozen=True)
class _Slice:
    """The texts of a job that go into one batch."""

    job: _Job
    texts: Sequence[str]


class Scorer:
    """Predictions of all models. Its coroutines belong to one event loop.

    batch: texts that are scored together at most. waiting_texts: how many may wait. seconds: until
    a request is given up.
    """

    def __init__(self, batch: int, waiting_texts: int, seconds: float, metrics: Metrics) -> None:
        self._batch = batch
        self._most = waiting_texts
        self._seconds = seconds
        self._metrics = metrics
        self._changed = threading.Condition()  # guards what follows
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="tidegate-scorer", daemon=True)

    def start(self) -> None:
        """Begin to score; called on the event loop that waits for the answers."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def alive(self) -> bool:
        """Whether it scores what it is given."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Score what was accepted, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    async def predict(
        self, classifier: TextClassifier, texts: Sequence[str], receive: Receive
    ) -> list[dict[str, Any]]:
        """What ``answers.predictions`` says of the texts.

        receive: tells when the client leaves. Failure if it does, if too many wait, or too long.
        """
        future = asyncio.get_running_loop().create_future()
        job = _Job(classifier, texts, future)
        with self._changed:
            # A request that is larger than the queue is taken when nothing else waits.
            if self._waiting and self._waiting + len(texts) > self._most:
                raise overloaded("too many texts wait already")
            self._jobs.append(job)
            self._waiting += len(texts)
            self._metrics.waiting_texts.set(self._waiting)
            self._changed.notify()
        try:
            return await answer(future, receive, self._seconds)
        finally:
            future.cancel()  # if it is not there: its job is left out

    def _work(self) -> None:
        """The thread: batch after batch until it is stopped and nothing waits."""
        while batch := self._next():
            scored = self._score(batch)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_deliver, scored)

    def _next(self) -> list[_Slice]:
        """What is scored next; waits for it. Empty when there will be no more."""
        with self._changed:
            batch: list[_Slice] = []
            while not batch:  # it may be that all who waited have given up
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if not self._jobs:
                    break
                batch = self._take()
            self._metrics.waiting_texts.set(self._waiting)
            return batch

    def _take(self) -> list[_Slice]:
        """The first jobs' texts, all for one model. A job that is not through goes to the end."""
        batch: list[_Slice] = []
        left, characters = self._batch, _BATCH_CHARACTERS
        later: list[_Job] = []
        while self._jobs and left > 0 and characters > 0:
            job = self._jobs.popleft()
            if job.future.done():  # given up, or one of its texts can't be scored
                self._waiting -= len(job.texts) - job.taken
            elif batch and job.classifier is not batch[0].job.classifier:
                later.append(job)
            else:
                first = job.taken
                while job.taken < len(job.texts) and left > 0 and characters > 0:
                    characters -= len(job.texts[job.taken])
                    left -= 1
                    job.taken += 1
                batch.append(_Slice(job, job.texts[first : job.taken]))
                self._waiting -= job.taken - first
        self._jobs.extendleft(reversed(later))
        self._jobs.extend(each.job for each in batch if each.job.taken < len(each.job.texts))
        return batch

    def _score(self, batch: list[_Slice]) -> list[tuple[_Slice, list[dict[str, Any]] | Exception]]:
        """Each slice's results, or what went wrong with it."""
        texts = [text for each in batch for text in each.texts]
        try:
            with self._metrics.scoring_seconds.time():
                found = answers.predictions(batch[0].job.classifier, texts)
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            return [alone for each in batch for alone in self._score([each])]  # whose fault it is
        self._metrics.batch_texts.observe(len(texts))
        scored: list[tuple[_Slice, list[dict[str, Any]] | Exception]] = []
        begin = 0
        for each in batch:
            scored.append((each, found[begin : begin + len(each.texts)]))
            begin += len(each.texts)
        return scored


def _deliver(scored: list[tuple[_Slice, list[dict[str, Any]] | Exception]]) -> None:
    """On the event loop: give results to those who wait for them."""
    for each, found in scored:
        job = each.job
        if job.future.done():
            continue
        if isinstance(found, Exception):
            job.future.set_exception(found)
            continue
        job.results += found
        if len(job.results) == len(job.texts):
            job.future.set_result(job.results)


class Explainer:
    """A thread for what takes long, and a bounded number of requests that wait for it."""

    def __init__(self, waiting: int, seconds: float, metrics: Metrics) -> None:
        self._most = waiting
        self._seconds = seconds
        self._metrics = metrics
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "tidegate-explainer")

    async def run(self, steps: Sequence[Callable[[], Answer]], receive: Receive) -> list[Answer]:
        """Each step's result; between two of them a request that was given up ends.

        receive: tells when the client leaves. Failure if it does, if too many wait, or too long.
        """
        if self._waiting >= self._most:
            raise overloaded("too many explanations wait already")
        given_up = threading.Event()

        def all_steps() -> list[Answer]:
            found = []
            for step in steps:
                if given_up.is_set():
                    break
                found.append(step())
            return found

        self._count(1)
        job = self._thread.submit(all_steps)
        future = asyncio.wrap_future(job)
        future.add_done_callback(self._ended)
        try:
            return await answer(future, receive, self._seconds)
        finally:
            # A step that runs can't be stopped, and counts until it has ended. What has not begun
            # leaves its place at once.
            given_up.set()
            job.cancel()

    def _count(self, change: int) -> None:
        self._waiting += change
        self._metrics.explanations.set(self._waiting)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._count(-1)
        if not future.cancelled():
            future.exception()  # seen, also where nobody waits for it any more

    def stop(self) -> None:
        """End when the step that runs has ended."""
        self._thread.shutdown(cancel_futures=True)
