"""A Resolver from tables: the DNS of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from mta.dns.resolver import (
    AddressAnswer,
    Answer,
    AnyAnswer,
    MailExchanger,
    MxAnswer,
    NoData,
    NoSuchName,
    RecordType,
    Temporary,
)


class FakeResolver:
    """`mx`: domain → [(preference, host)]; `hosts`: host → [address]; `records`: (name, kind) → [record] for `query`.

    A table's value may be an answer of its own too (Temporary("SERVFAIL")). A name in no table is NoSuchName; one in another
    table alone is NoData. `asked` records questions.
    """

    def __init__(
        self,
        mx: Mapping[str, Sequence[tuple[int, str]] | MxAnswer] | None = None,
        hosts: Mapping[str, Sequence[str] | AddressAnswer] | None = None,
        records: Mapping[tuple[str, RecordType], Sequence[Any] | AnyAnswer] | None = None,
    ) -> None:
        self.mx_table: dict[str, Sequence[tuple[int, str]] | MxAnswer] = dict(mx or {})
        self.hosts_table: dict[str, Sequence[str] | AddressAnswer] = dict(hosts or {})
        self.records_table: dict[tuple[str, RecordType], Sequence[Any] | AnyAnswer] = dict(records or {})
        self.asked: list[tuple[str, str]] = []

    def mx(self, domain: str) -> Deferred[MxAnswer]:
        self.asked.append(("MX", domain))
        entry = self.mx_table.get(domain)
        if isinstance(entry, Answer | NoSuchName | NoData | Temporary):
            return succeed(entry)
        if not entry:
            return succeed(NoData() if domain in self.hosts_table or entry is not None else NoSuchName())
        return succeed(Answer(tuple(MailExchanger(preference, host) for preference, host in entry)))

    def addresses(self, host: str) -> Deferred[AddressAnswer]:
        self.asked.append(("A", host))
        entry = self.hosts_table.get(host)
        if isinstance(entry, Answer | NoSuchName | NoData | Temporary):
            return succeed(entry)
        if not entry:
            return succeed(NoData() if host in self.mx_table or entry is not None else NoSuchName())
        return succeed(Answer(tuple(entry)))

    def query(self, name: str, kind: RecordType) -> Deferred[AnyAnswer]:
        """From `records`; MX, A and AAAA that are not there come from the other two tables."""
        entry = self.records_table.get((name, kind))
        if entry is None and kind is RecordType.MX:
            return self.mx(name)
        if entry is None and kind in {RecordType.A, RecordType.AAAA}:
            return self.addresses(name).addCallback(_of_kind, kind)
        self.asked.append((kind.name, name))
        if isinstance(entry, Answer | NoSuchName | NoData | Temporary):
            return succeed(entry)
        if entry:
            return succeed(Answer(tuple(entry)))
        known = name in self.mx_table or name in self.hosts_table or name in {each for each, _ in self.records_table}
        return succeed(NoData() if known else NoSuchName())


def _of_kind(answer: AddressAnswer, kind: RecordType) -> AnyAnswer:
    if not isinstance(answer, Answer):
        return answer
    records = tuple(each for each in answer.records if (":" in each) == (kind is RecordType.AAAA))
    return Answer(records, answer.authentic) if records else NoData()
