"""Stages in threads: order, overlap by events, bounds, errors, and that no thread stays."""

import signal
import threading
import time

import pytest

from getam.utils.pipeline import Stage, pipelined

PATIENCE = 20  # seconds until a test gives up; none of them takes so long


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_results_are_those_of_the_stages_in_order():
    late = threading.Event()

    def slow_at_first(number):
        if number == 1:
            assert late.wait(PATIENCE)
        if number == 9:  # a later item overtakes the first one
            late.set()
        return number + 1

    stages = (Stage(lambda number: number * number, 2, 3), Stage(slow_at_first, 3, 9))
    assert list(pipelined(range(1, 31), *stages)) == [number * number + 1 for number in range(1, 31)]


def test_stages_and_items_run_at_once():
    """An item is made, one is in the first stage, and another one in the second: each waits for the two others."""
    together = threading.Barrier(3, timeout=PATIENCE)

    def items():
        for number in range(5):
            if number == 2:
                together.wait()
            yield number

    def meeting(at):
        def stage(number):
            if number == at:
                together.wait()
            return number

        return stage

    assert list(pipelined(items(), Stage(meeting(1), 1, 4), Stage(meeting(0), 1, 4))) == [0, 1, 2, 3, 4]


def test_bounds():
    """With stages that end nothing, items are made up to the bounds and no further."""
    for bounds, expected in (((3, 9), 3), ((9, 4), 4)):
        made, release, stopped = [], threading.Event(), threading.Event()

        def items(made=made, stopped=stopped, expected=expected):
            for number in range(20):
                made.append(number)
                if len(made) == expected:
                    stopped.set()
                yield number

        def hold(number, release=release):
            assert release.wait(PATIENCE)
            return number

        first = hold if bounds[0] < bounds[1] else (lambda number: number)
        found = []
        stages = (Stage(first, 2, bounds[0]), Stage(hold, 2, bounds[1]))
        consumer = threading.Thread(target=lambda f=found, i=items, s=stages: f.extend(pipelined(i(), *s)))
        consumer.start()
        assert stopped.wait(PATIENCE)
        consumer.join(0.2)  # time for one item too many
        assert len(made) == expected
        release.set()
        consumer.join(PATIENCE)
        assert found == list(range(20))


@pytest.mark.parametrize("where", ["items", "first", "second"])
def test_an_error_is_raised_as_it_is(where):
    done = []

    def failing(name):
        def at(number):
            if name == where and number == 4:
                raise OSError(28, "the disk is full")
            done.append((name, number))
            return number

        return at

    items = map(failing("items"), range(100))
    with pytest.raises(OSError, match="the disk is full"):
        list(pipelined(items, Stage(failing("first"), 1, 3), Stage(failing("second"), 2, 6)))
    assert max(number for _, number in done) <= 4 + 6
    if where == "first":
        assert ("second", 4) not in done


@pytest.mark.parametrize("end", ["close", "throw"])
def test_the_caller_ends_it(end):
    """What runs comes to its end, what waits is cancelled."""
    started, begun, done = threading.Event(), [], []

    def write(number):
        begun.append(number)
        if number == 0:
            assert started.wait(PATIENCE)
        started.set()
        done.append(number)
        return number

    results = pipelined(iter(range(1000)), Stage(lambda number: number, 1, 4), Stage(write, 2, 8))
    assert next(results) == 0
    if end == "close":
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    assert sorted(begun) == sorted(done)
    assert len(done) <= 9
    assert list(results) == []


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_ends_the_wait_for_a_stage(ctrl_c):
    """Ctrl-C comes while the caller waits: the running item is finished, the others are not begun."""
    waiting, done = threading.Event(), []

    def write(number):
        if number == 1:
            assert waiting.wait(PATIENCE)
            time.sleep(0.2)  # the caller waits for this function now
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)  # it leaves its wait
        done.append(number)

    def items():
        yield from range(3)
        waiting.set()
        yield from range(3, 50)

    with pytest.raises(KeyboardInterrupt):
        list(pipelined(items(), Stage(write, 1, 4)))
    assert done == [0, 1]
