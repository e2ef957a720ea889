"""The configuration file's model: every key, its type, default and meaning. The names are a contract with administrators.

docs/configuration.md and `mta config schema` are made from it. Whether files exist, certificates load, or a combination is
unsafe is not decided here (check.py). Keys under [test_only] are refused unless MTA_TEST_ONLY=1 is in the environment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mta.config.kinds import (
    EndpointText,
    FileName,
    FileOrOutput,
    HostName,
    IpAddress,
    Mailbox,
    NameServer,
    Network,
    NextHopHost,
    Positive,
    RouteDomain,
    ServerName,
    path_after,
)
from mta.config.units import Octets, Seconds, SecondsOrNone

CLIENT_MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
MECHANISMS_KNOWN = ("PLAIN", "LOGIN", "SCRAM-SHA-256")


class Table(BaseModel):
    """A table of the file: frozen; unknown keys are errors; a value is of its type or wrong ("50" is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def known_mechanisms(names: list[str], known: Sequence[str]) -> list[str]:
    """In upper case. Raises ValueError."""
    upper = [name.upper() for name in names]
    for name in upper:
        if name not in known:
            raise ValueError(f"unknown mechanism {name}; known are {', '.join(known)}")
    return upper


class Spool(Table):
    """[spool]: the queue on disk."""

    path: FileName = Field(
        default=Path("/var/spool/mta"), description="directory of the spool; needs a local file system"
    )
    shards: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="databases side by side; can grow, never shrink"
    )
    history: SecondsOrNone = Field(
        default=14 * 86400.0, description="how long finished messages stay findable (mta why)"
    )
    history_limit: Octets = Field(default=2 << 30, description="size of the history on disk; the oldest day goes first")
    refusals_limit: Octets = Field(default=64 << 20, description="size of the file of refused sessions and recipients")


class CertificateName(Table):
    """[[tls.name]]: a certificate for some names of SNI."""

    names: list[ServerName] = Field(
        min_length=1,
        description='names a client may ask for by SNI; "*.example.org" too',
        examples=[["smtp.example.net"]],
    )
    certificate: FileName = Field(
        description="PEM file: certificate, then its chain", examples=["/etc/mta/tls/example.net/fullchain.pem"]
    )
    private_key: FileName = Field(
        description="PEM file, readable by nobody else", examples=["/etc/mta/tls/example.net/privkey.pem"]
    )


class Tls(Table):
    """[tls]: the server's certificates."""

    certificate: FileName | None = Field(
        default=None, description="PEM file: certificate, then its chain", examples=["/etc/mta/tls/fullchain.pem"]
    )
    private_key: FileName | None = Field(
        default=None, description="PEM file, readable by nobody else", examples=["/etc/mta/tls/privkey.pem"]
    )
    minimum: Literal["TLSv1.2", "TLSv1.3"] = Field(default="TLSv1.2", description="lowest version taken from clients")
    handshake_timeout: Seconds = Field(default=60.0, description="time for a handshake")
    name: list[CertificateName] = Field(default=[], description="further certificates by SNI name")

    @model_validator(mode="after")
    def _both_or_none(self) -> Tls:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together")
        return self


class Listener(Table):
    """[[listener]]: where clients connect."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = Field(
        description="its name in logs and metrics", examples=["mx"]
    )
    endpoints: list[EndpointText] = Field(
        min_length=1, description='Twisted endpoint strings: "tcp:25", "tcp6:25"', examples=[["tcp:25", "tcp6:25"]]
    )
    kind: Literal["mx", "submission"] = Field(
        description="mx: mail for our domains; submission: AUTH required", examples=["mx"]
    )
    tls: Literal["none", "starttls", "implicit"] = Field(default="starttls", description="how TLS begins")
    auth: bool | None = Field(default=None, description="offer AUTH; default: only on submission", examples=[False])
    size_limit: Octets | None = Field(
        default=None, description="largest message here; default: limits.message_size", examples=["50M"]
    )
    bare_newline: Literal["reject", "normalize"] = Field(
        default="reject", description="CR or LF alone in content: refuse the message, or make it CRLF / a space"
    )
    normalize_networks: list[Network] = Field(
        default=[], description="clients for which bare newlines are normalized", examples=[["192.0.2.17/32"]]
    )


class UsersBackend(Table):
    """[[auth.backend]] kind = "users": the own user database (mta user)."""

    kind: Literal["users"] = Field(description="own store: SCRAM verifiers, no clear text", examples=["users"])
    path: FileName = Field(description="the database that `mta user` keeps", examples=["/etc/mta/users.db"])


class Auth(Table):
    """[auth]: who may log in, and how."""

    mechanisms: list[str] = Field(
        default=["SCRAM-SHA-256", "PLAIN", "LOGIN"], description="SASL mechanisms, strongest first"
    )
    realm: str = Field(
        default="",
        description="appended to a login without a domain; default: hostname's domain",
        examples=["example.org"],
    )
    backend: list[UsersBackend] = Field(default=[], description="password stores, asked in order")
    failures_per_session: Positive = Field(default=3, description="failed logins before the connection is closed")
    cache_seconds: SecondsOrNone = Field(
        default=60.0, description="how long a proven password is remembered (by keyed hash)"
    )

    @field_validator("mechanisms")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return known_mechanisms(names, MECHANISMS_KNOWN)


class Route(Table):
    """[[route]]: for which domains, who exists there, and the way out. The first that fits decides."""

    domains: list[RouteDomain] = Field(
        min_length=1,
        description='"example.org", ".example.org" (all below), or "*"',
        examples=[["example.org", ".example.org"]],
    )
    recipients: str = Field(
        default="any", description='who exists: "any", "users", "passwd", "table:/path"', examples=["users"]
    )
    accept: Literal["all", "authorized"] | None = Field(
        default=None,
        description="from whom: everybody, or only who may relay; default: all for local deliveries of named domains, "
        'authorized for "*", smtp: and mx',
        examples=["all"],
    )
    via: str = Field(
        description='"maildir:/path/{domain}/{local}", "smtp:[host]:port", "smtps:[host]:port" (TLS at once), "mx", "discard", '
        '"error:5.1.1 text"',
        examples=["maildir:/var/mail/{domain}/{local}"],
    )
    tls: Literal["none", "may", "encrypt", "verify"] | None = Field(
        default=None,
        description="TLS to the next hop. none: never; may: when offered, clear text when it fails; encrypt: or the mail waits; "
        "verify: with a certificate that proves the host's name, or the mail waits; default: may, for smtps: encrypt",
        examples=["verify"],
    )

    @field_validator("recipients")
    @classmethod
    def _recipients(cls, text: str, info: ValidationInfo) -> str:
        if text in {"any", "users", "passwd"} or (text.startswith("table:") and len(text) > len("table:")):
            return path_after("table:", text, info)
        raise ValueError('must be "any", "users", "passwd" or "table:/path/of/file"')

    @field_validator("via")
    @classmethod
    def _via(cls, text: str, info: ValidationInfo) -> str:
        return path_after("maildir:", text, info)


class Credential(Table):
    """[[credential]]: our own login at a next hop (smart host)."""

    host: NextHopHost = Field(description="exactly as in `via`: no other host gets it", examples=["smart.example.net"])
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="for this port of the host; default: for each that has no credential of its own",
        examples=[587],
    )
    user: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")] = Field(
        description="name to log in by", examples=["relay@example.org"]
    )
    password: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")] | None = Field(
        default=None,
        repr=False,
        description="the password itself, instead of password_file: then this file is a secret too",
    )
    password_file: FileName | None = Field(
        default=None,
        description="file whose first line is the password, readable by nobody else",
        examples=["/etc/mta/smart.password"],
    )
    mechanisms: list[str] = Field(
        default=list(CLIENT_MECHANISMS), min_length=1, description="SASL mechanisms that may be used, best first"
    )
    require_verified_tls: bool = Field(
        default=True,
        description="log in only where the certificate proves the host's name, as if the route said verify; PLAIN and LOGIN "
        "never go in clear text in any case",
    )

    @field_validator("mechanisms")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return known_mechanisms(names, CLIENT_MECHANISMS)

    @model_validator(mode="after")
    def _one_secret(self) -> Credential:
        if (self.password is None) == (self.password_file is None):
            raise ValueError("a credential has one of password_file and password")
        return self


class Limits(Table):
    """[limits]: bounds against the hostile and the careless."""

    message_size: Octets = Field(default=25 << 20, description="largest message in octets (SIZE)")
    header_size: Octets = Field(default=1 << 20, description="largest header section")
    header_fields: Positive = Field(default=2000, description="most header fields")
    header_field_size: Octets = Field(default=100 << 10, description="largest header field")
    command_line: Annotated[int, Field(ge=512)] = Field(default=2048, description="octets of a command line")
    text_line: Annotated[int, Field(ge=998)] = Field(
        default=65535, description="octets of a text line taken by mx listeners"
    )
    submission_text_line: Annotated[int, Field(ge=998)] = Field(
        default=998, description="the same on submission listeners"
    )
    recipients: Annotated[int, Field(ge=100)] = Field(default=1000, description="recipients of a transaction")
    messages: Positive = Field(default=1000, description="messages of a session")
    hops: Positive = Field(default=50, description="Received fields before a message counts as looping")
    connections: Positive = Field(default=2000, description="sessions at once")
    connections_per_client: Positive = Field(default=50, description="sessions of one IPv4 address or IPv6 /64")
    reserved_for_submission: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="share of connections that only submission listeners may use"
    )
    soft_errors: Positive = Field(default=10, description="errors of a session before each reply waits a second")
    hard_errors: Positive = Field(default=20, description="errors of a session before it is closed")
    junk_commands: Positive = Field(
        default=100, description="NOOP, VRFY, RSET ... without mail before they count as errors"
    )
    command_timeout: Seconds = Field(default=300.0, description="time for one command")
    session_timeout: Seconds = Field(default=3600.0, description="time for a session")
    stress_timeout: Seconds = Field(default=10.0, description="time for one command when connections run short")
    data_rate: Annotated[int, Field(ge=0)] = Field(
        default=500, description="octets a second below which content is too slow"
    )


class Queue(Table):
    """[queue]: retries and lifetimes."""

    hold: bool = Field(default=False, description="hold all new mail until `mta queue release`")
    lifetime: Seconds = Field(default=5 * 86400.0, description="a message older than this fails")
    report_lifetime: Seconds = Field(default=2 * 86400.0, description="the same for reports (null reverse-path)")
    delay_report_after: SecondsOrNone = Field(
        default=4 * 3600.0,
        description="who submitted a message that is still queued then is told, once a recipient; 0: nobody is",
    )
    retry_min: Seconds = Field(
        default=300.0, description="wait after the first deferral; doubles with each further one"
    )
    retry_max: Seconds = Field(default=4000.0, description="longest wait between attempts")
    destination_concurrency: Positive = Field(
        default=20,
        description="deliveries at once to one destination (a domain, a smarthost); begins with 5, and success raises it",
    )
    site_concurrency: Positive = Field(
        default=20, description="the same to one site: to all domains whose mail the same hosts take"
    )


class Outbound(Table):
    """[outbound]: how mail goes to other hosts."""

    family: Literal["ipv4-first", "ipv6-first", "alternate", "ipv4", "ipv6"] = Field(
        default="ipv4-first",
        description="which addresses of a host are tried first; alternate: by turns; ipv4, ipv6: those alone",
    )
    own_addresses: list[IpAddress] = Field(
        default=[],
        description="addresses that lead back here, beside those of this machine's interfaces (NAT, load balancer): "
        "mail whose MX is one of them is in a loop",
        examples=[["192.0.2.1", "2001:db8::1"]],
    )
    authorities: FileName | None = Field(
        default=None,
        description="PEM file of the authorities that vouch for next hops; default: the system's",
        examples=["/etc/mta/tls/authorities.pem"],
    )


class Dns(Table):
    """[dns]: which name servers are asked."""

    servers: list[NameServer] = Field(
        default=[],
        description='name servers: "127.0.0.1", "[2001:db8::53]:5353"; none: those of /etc/resolv.conf, read again when it changes',
        examples=[["127.0.0.1"]],
    )
    trusted: list[Network] = Field(
        default=[],
        description="name servers that validate DNSSEC and that nobody can speak for on the way (their AD bit is believed); "
        "those on loopback are trusted always",
        examples=[["10.0.0.53/32"]],
    )
    timeout: Seconds | None = Field(
        default=None,
        description="how long a server is waited for; later rounds are more patient; default: resolv.conf's, 5 s",
        examples=["5s"],
    )
    attempts: Annotated[int, Field(ge=1, le=5)] | None = Field(
        default=None, description="rounds through the servers; default: resolv.conf's, 2", examples=[2]
    )


class Control(Table):
    """[control]: the administrator's door."""

    socket: FileName = Field(default=Path("/run/mta/mta.sock"), description="UNIX socket of `mta`; peers by uid")
    admins: list[int | str] = Field(
        default=[],
        description="uids or user names that may use all verbs, beside root and mta's own",
        examples=[["postmaster", 1000]],
    )


class Log(Table):
    """[log]: the event log, one line an event."""

    path: FileOrOutput = Field(default="-", description='file, or "-" for standard output (systemd\'s journal)')
    format: Literal["text", "json"] = Field(default="text", description="text or JSON lines")


class Metrics(Table):
    """[metrics]: Prometheus."""

    endpoint: EndpointText = Field(
        default="",
        description='Twisted endpoint for HTTP, such as "tcp:9125:interface=127.0.0.1"; "" for none',
        examples=["tcp:9125:interface=127.0.0.1"],
    )

    @field_validator("endpoint")
    @classmethod
    def _private(cls, text: str) -> str:
        if text.startswith("tcp") and "interface=" not in text:  # all the world must be asked for by name
            raise ValueError("name an interface: metrics are not for the world (interface=127.0.0.1)")
        return text


class TestOnly(Table):
    """[test_only]: switches that break promises on purpose, so that tests can see themselves fail."""

    __test__ = False  # for pytest: no test class

    reply_before_commit: bool = Field(default=False, description="250 before the commit: acknowledged mail can be lost")
    mx_port: Annotated[int, Field(ge=1, le=65535)] = Field(default=25, description="port of next hops found by MX")
    allow_loopback_mx: bool = Field(default=False, description="let an MX point to loopback")


class Configuration(Table):
    """The whole file."""

    hostname: HostName = Field(
        description="this host's name in greetings, Received and EHLO", examples=["mail.example.org"]
    )
    postmaster: Mailbox = Field(description="who answers for this host", examples=["admin@example.org"])
    relay_networks: list[Network] = Field(
        default=[],
        description="clients that relay without AUTH; loopback too only when written here",
        examples=[["192.0.2.0/24", "2001:db8::/32"]],
    )
    spool: Spool = Field(default=Spool(), description="the queue on disk")
    tls: Tls = Field(default=Tls(), description="certificates")
    listener: list[Listener] = Field(min_length=1, description="where clients connect")
    auth: Auth = Field(default=Auth(), description="logins")
    route: list[Route] = Field(min_length=1, description="the way out, first match decides")
    credential: list[Credential] = Field(default=[], description="logins at next hops")
    limits: Limits = Field(default=Limits(), description="bounds")
    queue: Queue = Field(default=Queue(), description="retries")
    outbound: Outbound = Field(default=Outbound(), description="to other hosts")
    dns: Dns = Field(default=Dns(), description="name servers")
    control: Control = Field(default=Control(), description="the control socket")
    log: Log = Field(default=Log(), description="the event log")
    metrics: Metrics = Field(default=Metrics(), description="Prometheus")
    test_only: TestOnly = Field(default=TestOnly(), description="for tests")

    def may_relay(self, client_ip: str) -> bool:
        """Is this (normalised) peer in relay_networks?"""
        if not self.relay_networks or not client_ip:
            return False
        address = ipaddress.ip_address(client_ip)
        return any(address in network for network in self.relay_networks if network.version == address.version)
