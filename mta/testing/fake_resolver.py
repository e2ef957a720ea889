"""A Resolver from tables: the DNS of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, succeed

from mta.dns.resolver import AddressAnswer, Answer, MailExchanger, MxAnswer, NoData, NoSuchName, Temporary


class FakeResolver:
    """`mx`: domain → [(preference, host)]; `hosts`: host → [address]. A table's value may be an answer of its own too
    (Temporary("SERVFAIL")). A name in no table is NoSuchName; one in the other table alone is NoData. `asked` records questions.
    """

    def __init__(
        self,
        mx: Mapping[str, Sequence[tuple[int, str]] | MxAnswer] | None = None,
        hosts: Mapping[str, Sequence[str] | AddressAnswer] | None = None,
    ) -> None:
        self.mx_table: dict[str, Sequence[tuple[int, str]] | MxAnswer] = dict(mx or {})
        self.hosts_table: dict[str, Sequence[str] | AddressAnswer] = dict(hosts or {})
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
