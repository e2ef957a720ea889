"""A thousand destinations of which half are dead: the others hardly notice.

The dead refuse connections, swallow them, or take them and never speak, and there are more messages for them than jobs may be under way
at once. Each pair of measurements is of the same minute; a busy machine gets another pair, never another bound.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mta.testing.neighbours import living_rate

pytestmark = pytest.mark.real

PAIRS = 4
SHARE = 0.9
MESSAGES = 4000


def test_the_living_get_nine_tenths_of_their_undisturbed_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = []
    for pair in range(PAIRS):
        undisturbed = living_rate(tmp_path / f"{pair}-alive", dead=False, messages=MESSAGES)
        beside_dead = living_rate(tmp_path / f"{pair}-half", dead=True, messages=MESSAGES)
        shares.append(beside_dead / undisturbed)
        with capsys.disabled():
            sys.stdout.write(
                f"\n  messages a second to the living: {undisturbed:.0f}; half dead: {beside_dead:.0f} ({shares[-1]:.0%})\n"
            )
        if shares[-1] >= SHARE:
            return
    pytest.fail(f"the living got {', '.join(f'{share:.0%}' for share in shares)} of the undisturbed rate")
