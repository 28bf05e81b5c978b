"""The machine's clock: two hands, and they are not the same."""

import time

from kkt_bridge.clock import SystemClock


def test_the_wall_hand_shows_milliseconds_since_1970():
    before = time.time()
    assert before * 1000 - 1 <= SystemClock().now_ms() <= time.time() * 1000


def test_the_monotonic_hand_never_goes_back():
    clock = SystemClock()
    shown = [clock.monotonic() for _ in range(1000)]
    assert shown == sorted(shown)
    assert abs(shown[-1] - time.monotonic()) < 1
