"""What heirs inherit."""

from __future__ import annotations

import pytest

from mta.dsn.inheritance import inherited_notify, inherited_orcpt
from mta.mail.envelope import Notify
from mta.testing.letters import recipient

ALL = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY


@pytest.mark.parametrize(
    ("given", "alone", "among_several"),
    [
        (Notify.UNSET, Notify.UNSET, Notify.UNSET),
        (Notify.NEVER, Notify.NEVER, Notify.NEVER),
        (Notify.FAILURE, Notify.FAILURE, Notify.FAILURE),
        (ALL, ALL, Notify.FAILURE | Notify.DELAY),
        (Notify.SUCCESS, Notify.SUCCESS, Notify.NEVER),
    ],
)
def test_a_single_heir_takes_over_notify_and_several_tell_of_no_success(
    given: Notify, alone: Notify, among_several: Notify
) -> None:
    assert (inherited_notify(given, 1), inherited_notify(given, 2)) == (alone, among_several)


@pytest.mark.parametrize(
    ("address", "orcpt", "inherited"),
    [
        ("bob@example.org", "", "rfc822;bob@example.org"),
        ("bob@example.org", "rfc822;robert@example.org", "rfc822;robert@example.org"),
        ("grün@example.org", "", "utf-8;gr\\x{FC}n@example.org"),
    ],
)
def test_the_address_that_the_sender_wrote_is_passed_on(address: str, orcpt: str, inherited: str) -> None:
    assert inherited_orcpt(recipient(1, address, orcpt=orcpt)) == inherited
