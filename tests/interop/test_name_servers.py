"""Real name servers: unbound, which validates, and nsd with a signed zone; and strangers who try to answer before them."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, reactor, task
from twisted.internet.protocol import DatagramProtocol

from mta.delivery.mx import Host, Ourselves, hosts_of_domain
from mta.dns.channel import ReactorNetwork
from mta.dns.resolver import Answer, MailExchanger, NoData, NoSuchName, RecordType, Temporary, Tlsa, Trouble
from mta.dns.servers import DnsOptions
from mta.dns.stub import StubResolver
from mta.mail.outcome import Deferred, Failed
from mta.service.own_addresses import addresses_of_interfaces
from mta.testing.private_dns import PrivateDns, missing
from mta.testing.scripted_name_servers import mx, respond, understood

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]
REACTOR: Any = reactor
US = Ourselves("mail.us.example", frozenset({"192.0.2.99"}))
DIGEST = "aa" * 32
BIG = "".join(f'big IN TXT "{number:02} {"x" * 240}"\n' for number in range(16))
ALIASES = "".join(f"c{number} IN CNAME c{number + 1}\n" for number in range(11))
ZONE = f"""
@ IN MX 10 mx
@ IN MX 20 mx2
mx IN A 192.0.2.1
mx IN AAAA 2001:db8::1
mx2 IN A 192.0.2.2
null IN MX 0 .
alias IN CNAME @
c11 IN A 192.0.2.11
circle1 IN CNAME circle2
circle2 IN CNAME circle1
afar IN CNAME x.e.example.
bad IN A 192.0.2.66
onlybad IN MX 10 bad
somebad IN MX 10 gone
somebad IN MX 20 bad
gonemx IN MX 10 gone
gonemx IN MX 20 gone2
us IN MX 10 us-by-address
us-by-address IN A 192.0.2.99
loop IN MX 10 localhost-by-name
localhost-by-name IN A 127.0.0.1
implicit IN A 192.0.2.3
_25._tcp.mx IN TLSA 3 1 1 {DIGEST}
text IN TXT "v=spf1 " "-all"
1.2.0.192.in-addr IN PTR mx
{ALIASES}{BIG}"""
LOCAL = ["plain.example. 60 IN MX 10 mx.d.example.", "half.example. 60 IN CNAME mx.d.example."]


@pytest.fixture(scope="module")
def dns() -> Iterator[PrivateDns]:
    zones = {"d.example": ZONE, "e.example": "x IN A 192.0.2.5\n"}
    with PrivateDns(zones, local_data=LOCAL, bogus=["bad"], lame=["lame.example"]) as dns:
        yield dns


@pytest.fixture
def resolver(dns: PrivateDns) -> Iterator[StubResolver]:
    made = StubResolver(REACTOR, DnsOptions((dns.resolver,), timeout_seconds=10.0))
    yield made
    made.close()


async def ask(soon: Any) -> Any:
    return await soon if isinstance(soon, defer.Deferred) else soon


async def hosts(domain: str, resolver: StubResolver, ourselves: Ourselves = US) -> Any:
    return await hosts_of_domain(domain, resolver, random.Random(1), ourselves)


# --- what answers mean ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_four_outcomes_and_the_ad_bit(resolver: StubResolver) -> None:
    both = (MailExchanger(10, "mx.d.example"), MailExchanger(20, "mx2.d.example"))
    found = await ask(resolver.mx("d.example"))
    assert (sorted(found.records, key=str), found.authentic) == (sorted(both, key=str), True)
    assert 0 < found.ttl_seconds <= 60
    assert await ask(resolver.mx("no.d.example")) == NoSuchName(authentic=True)
    assert await ask(resolver.mx("mx.d.example")) == NoData(authentic=True)
    answer = await ask(resolver.mx("lame.example"))
    assert (type(answer), answer.trouble, answer.rcode) == (Temporary, Trouble.SERVFAIL, 2)
    assert (await ask(resolver.mx("no.d.example"))).ttl_seconds <= 30  # the SOA's MINIMUM


@pytest_twisted.ensureDeferred
async def test_what_nobody_signed_is_not_authentic(resolver: StubResolver) -> None:
    assert await ask(resolver.mx("plain.example")) == Answer((MailExchanger(10, "mx.d.example"),), authentic=False)
    assert await ask(resolver.mx("no.such.example")) == NoSuchName(authentic=False)


@pytest_twisted.ensureDeferred
async def test_a_forged_signature_is_servfail_with_the_reason(resolver: StubResolver) -> None:
    answer = await ask(resolver.query("bad.d.example", RecordType.A))
    assert answer.trouble is Trouble.SERVFAIL
    assert answer.text.startswith("SERVFAIL (DNSSEC Bogus")


@pytest_twisted.ensureDeferred
async def test_addresses_and_other_kinds(resolver: StubResolver) -> None:
    assert await ask(resolver.addresses("mx.d.example")) == Answer(("192.0.2.1", "2001:db8::1"), authentic=True)
    assert await ask(resolver.query("_25._tcp.mx.d.example", RecordType.TLSA)) == Answer(
        (Tlsa(3, 1, 1, bytes.fromhex(DIGEST)),), authentic=True
    )
    assert await ask(resolver.query("text.d.example", RecordType.TXT)) == Answer((b"v=spf1 -all",), authentic=True)
    assert await ask(resolver.query("1.2.0.192.in-addr.d.example", RecordType.PTR)) == Answer(("mx.d.example",), True)


@pytest_twisted.ensureDeferred
async def test_aliases(resolver: StubResolver) -> None:
    assert len((await ask(resolver.mx("alias.d.example"))).records) == 2
    assert await ask(resolver.addresses("c1.d.example")) == Answer(("192.0.2.11",), authentic=True)
    assert isinstance(await ask(resolver.addresses("c0.d.example")), Temporary)  # an eleventh
    assert isinstance(await ask(resolver.addresses("circle1.d.example")), Temporary)
    assert await ask(resolver.addresses("afar.d.example")) == Answer(("192.0.2.5",), authentic=True)


@pytest_twisted.ensureDeferred
async def test_an_alias_that_the_server_does_not_follow_is_followed_here(resolver: StubResolver) -> None:
    """unbound leaves it to the client where the alias is of its own local data."""
    found = await ask(resolver.addresses("half.example"))
    assert found == Answer(("192.0.2.1", "2001:db8::1"), authentic=False)


class Counting(ReactorNetwork):
    """Notes what is used."""

    def __init__(self) -> None:
        super().__init__(REACTOR)
        self.used: list[str] = []
        self.ports: set[int] = set()

    def udp(self, *args: Any) -> Any:
        self.used.append("udp")
        channel: Any = super().udp(*args)
        send = channel.send

        def noting(message: bytes) -> None:
            send(message)
            self.ports.add(channel._socket.getsockname()[1])

        channel.send = noting
        return channel

    def tcp(self, *args: Any) -> Any:
        self.used.append("tcp")
        return super().tcp(*args)


@pytest_twisted.ensureDeferred
async def test_a_large_answer_comes_by_tcp(dns: PrivateDns) -> None:
    network = Counting()
    resolver = StubResolver(REACTOR, DnsOptions((dns.resolver,)), network=network)
    answer = await ask(resolver.query("big.d.example", RecordType.TXT))
    assert (len(answer.records), network.used) == (16, ["udp", "tcp"])
    await ask(resolver.mx("d.example"))
    assert network.used[2:] == ["udp"]
    resolver.close()


@pytest_twisted.ensureDeferred
async def test_each_question_comes_from_another_port(dns: PrivateDns) -> None:
    network = Counting()
    resolver = StubResolver(REACTOR, DnsOptions((dns.resolver,)), network=network)
    for number in range(40):
        await ask(resolver.mx(f"p{number}.d.example"))
    assert len(network.ports) >= 38  # the system draws them; two may be the same
    assert max(network.ports) - min(network.ports) > 1000
    resolver.close()


# --- servers that are not well --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_server_that_refuses_is_followed_by_the_next(dns: PrivateDns) -> None:
    """nsd knows its own zones and refuses others; for its own it is a good server, although it does not recurse."""
    resolver = StubResolver(REACTOR, DnsOptions((dns.authority, dns.resolver)))
    assert (await ask(resolver.mx("plain.example"))).records == (MailExchanger(10, "mx.d.example"),)
    assert (await ask(resolver.query("implicit.d.example", RecordType.A))).records == ("192.0.2.3",)
    assert (await ask(resolver.query("afar.d.example", RecordType.A))).records == ("192.0.2.5",)
    resolver.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there_costs_no_time(dns: PrivateDns) -> None:
    resolver = StubResolver(REACTOR, DnsOptions((("127.0.0.1", 9), dns.resolver), timeout_seconds=5.0))
    begin = time.monotonic()
    assert isinstance(await ask(resolver.mx("d.example")), Answer)
    assert time.monotonic() - begin < 4
    resolver.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_is_a_timeout_and_defers(dns: PrivateDns) -> None:
    resolver = StubResolver(REACTOR, DnsOptions((dns.resolver,), timeout_seconds=0.2, attempts=2))
    dns.freeze("unbound")
    try:
        answer = await ask(resolver.mx("d.example"))
        outcome = await hosts("null.d.example", resolver)
    finally:
        dns.thaw("unbound")
    assert (type(answer), answer.trouble, answer.rcode) == (Temporary, Trouble.TIMEOUT, -1)
    assert (type(outcome), outcome.status) == (Deferred, "4.4.3")
    resolver.close()


@pytest_twisted.ensureDeferred
async def test_after_an_outage_all_is_well_at_once(dns: PrivateDns) -> None:
    resolver = StubResolver(REACTOR, DnsOptions((dns.resolver,), timeout_seconds=0.2, attempts=1))
    dns.stop("unbound")
    questions = [resolver.mx(f"o{number}.d.example") for number in range(50)]
    answers = await ask(defer.gatherResults([each for each in questions if isinstance(each, defer.Deferred)]))
    dns.start("unbound")
    assert {answer.trouble for answer in answers} == {Trouble.TIMEOUT}
    assert isinstance(await ask(resolver.mx("implicit.d.example")), NoData)
    resolver.close()


# --- SAFETY 3.8: what becomes of mail ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "outcome", "status"),
    [
        ("no.d.example", Failed, "5.1.2"),
        ("no.such.example", Failed, "5.1.2"),
        ("null.d.example", Failed, "5.1.10"),
        ("gonemx.d.example", Failed, "5.4.4"),
        ("text.d.example", Failed, "5.4.4"),
        ("us.d.example", Failed, "5.4.6"),
        ("loop.d.example", Failed, "5.4.6"),
        ("lame.example", Deferred, "4.4.3"),
        ("bad.d.example", Deferred, "4.4.3"),
        ("onlybad.d.example", Deferred, "4.4.3"),
        ("somebad.d.example", Deferred, "4.4.3"),
        ("circle1.d.example", Deferred, "4.4.3"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_nothing_temporary_fails_and_what_does_not_exist_does(
    resolver: StubResolver, domain: str, outcome: type, status: str
) -> None:
    found = await hosts(domain, resolver)
    assert (type(found), found.status) == (outcome, status)
    assert found.code == (556 if status == "5.1.10" else 0)


@pytest_twisted.ensureDeferred
async def test_hosts_to_try(resolver: StubResolver) -> None:
    assert await hosts("d.example", resolver) == (
        Host("mx.d.example", "192.0.2.1"),
        Host("mx.d.example", "2001:db8::1"),
        Host("mx2.d.example", "192.0.2.2"),
    )
    assert await hosts("implicit.d.example", resolver) == (Host("implicit.d.example", "192.0.2.3"),)


# --- strangers --------------------------------------------------------------------------------------------------------


class Stranger(DatagramProtocol):
    """Answers nothing by itself; `heard` is called with each question."""

    def __init__(self, heard: Callable[[bytes, Any], None] = lambda _octets, _to: None) -> None:
        self.heard = heard

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard(datagram, addr)


@pytest.mark.parametrize("how", ["another port", "another address", "another id", "another question"])
@pytest.mark.parametrize("true_one_comes", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_is_not_the_server_is_not_heard(how: str, true_one_comes: bool) -> None:
    """Whoever sees the question and answers first: only the server's own address, port, id and question count."""
    honest, forged = mx("d.example", 10, "mx.d.example"), mx("d.example", 10, "mx.evil.example")
    sent: list[bytes] = []

    def heard(datagram: bytes, to: Any) -> None:
        asked = understood(datagram, "127.0.0.1", 0, "udp")
        lie = {
            "another id": lambda: respond(asked, forged, id=asked.id ^ 1),
            "another question": lambda: respond(asked, forged, question=(b"e.example", asked.kind)),
        }.get(how, lambda: respond(asked, forged))()
        voice = {"another port": other_port, "another address": other_address}.get(how, server)
        voice.write(lie, to)
        sent.append(lie)
        if true_one_comes:
            REACTOR.callLater(0.05, server.write, respond(asked, honest), to)

    server = REACTOR.listenUDP(0, Stranger(heard), interface="127.0.0.1")
    other_port = REACTOR.listenUDP(0, Stranger(), interface="127.0.0.1")
    other_address = REACTOR.listenUDP(server.getHost().port, Stranger(), interface="127.0.0.2")
    resolver = StubResolver(
        REACTOR, DnsOptions((("127.0.0.1", server.getHost().port),), timeout_seconds=0.3, attempts=1)
    )
    answer = await ask(resolver.mx("d.example"))
    resolver.close()
    for port in (server, other_port, other_address):
        await defer.maybeDeferred(port.stopListening)
    assert len(sent) == 1
    if true_one_comes:
        assert answer == Answer((MailExchanger(10, "mx.d.example"),))
    else:
        assert (type(answer), answer.trouble) == (Temporary, Trouble.TIMEOUT)


LOOPBACKS = ["127.0.0.1"] + ["::1"] * ("::1" in addresses_of_interfaces())


@pytest.mark.parametrize("address", LOOPBACKS)
@pytest_twisted.ensureDeferred
async def test_the_same_lie_from_the_server_itself_is_believed(address: str) -> None:
    """The control: what the strangers sent was lawful but for where it came from. By IPv4 and IPv6."""

    def heard(datagram: bytes, to: Any) -> None:
        asked = understood(datagram, address, 0, "udp")
        server.write(respond(asked, mx("d.example", 10, "mx.evil.example"), authentic=True), to)

    server = REACTOR.listenUDP(0, Stranger(heard), interface=address)
    resolver = StubResolver(REACTOR, DnsOptions(((address, server.getHost().port),)))
    assert await ask(resolver.mx("d.example")) == Answer((MailExchanger(10, "mx.evil.example"),), authentic=True)
    resolver.close()
    await defer.maybeDeferred(server.stopListening)


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_open(dns: PrivateDns) -> None:
    before = len(REACTOR.getReaders()), len(REACTOR.getDelayedCalls())
    resolver = StubResolver(REACTOR, DnsOptions((dns.resolver,)))
    for number in range(20):
        await ask(resolver.addresses(f"l{number}.d.example"))
    await ask(resolver.query("big.d.example", RecordType.TXT))
    waiting = [resolver.mx(f"w{number}.d.example") for number in range(20)]
    resolver.close()
    assert [type(await ask(each)) for each in waiting] == [Temporary] * 20
    await task.deferLater(REACTOR, 0.01)
    assert (len(REACTOR.getReaders()), len(REACTOR.getDelayedCalls())) == before
