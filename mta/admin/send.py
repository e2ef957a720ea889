"""`mta send`: a message handed in by an administrator, block by block, into the spool by the way of all mail.

begin (envelope; recipients are resolved as at RCPT) → block, as often as it takes → end (the queue ID, once it is durable). A
block is answered when the spool can take the next one, so neither side holds more than a block and what the spool keeps in memory.
An upload belongs to its connection: when that ends early, nothing was sent.

Newlines become CRLF here, so that a file with bare LF, as files are, can be sent. Missing Date, From and Message-ID are added
as for submission (RFC 6409 section 8).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from twisted.internet.defer import Deferred

from mta.admin.arguments import Arguments, text_of, texts_of
from mta.admin.errors import DATA, NO_RECIPIENT, TEMPORARY, UNAVAILABLE, VerbError
from mta.admin.house import Caller, House
from mta.inbound.intake import HeaderRefused, Intake
from mta.inbound.reception import Reception
from mta.inbound.session import LEASE_OF_A_BOOT
from mta.inbound.submission import missing_fields
from mta.mail.address import NULL_PATH, Address, AddressError, parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient
from mta.mail.identifiers import format_id
from mta.mail.reply import Reply
from mta.mail.trace import format_date
from mta.policy.header import decide_header, message_id_of
from mta.routing.router import Place
from mta.smtp.content import ContentFacts
from mta.spool.contract import Acceptance, SpoolError
from mta.telemetry.metrics import counter

BLOCK_OCTETS = 256 << 10  # of the message in one request

_SENT = counter("mta_messages_sent_locally_total", "Messages handed in by mta send")


class Upload:
    """A message on its way in. `resume` of the spool's writer fires the waiting block's Deferred."""

    def __init__(self, reception: Reception, caller: Caller, sender: Address, recipients: list[NewRecipient]) -> None:
        self._policies = reception.policies
        self._reception = reception
        self._caller = caller
        self._sender = sender
        self._recipients = recipients
        self._spool = reception.next_spool()
        limits = self._policies.configuration.limits
        if not self._spool.has_room(0):
            raise VerbError("the spool has no room", TEMPORARY)
        self._id = self._spool.new_id()
        self._facts = ContentFacts(limits.message_size, limits.text_line, normalize=True)
        self._held_back = b""  # a CR that an LF may follow
        self._last = b""
        self._waiting: Deferred[None] | None = None
        self._intake = Intake(
            self._finish_header,
            lambda resume: self._spool.body_writer(self._id, resume),
            self._resume,
            self._policies.header_bounds.size,
        )

    async def take(self, data: bytes) -> None:
        """Ends when the next block may come."""
        data = self._held_back + data
        self._held_back = b"\r" if data.endswith(b"\r") else b""
        await self._give(data[:-1] if self._held_back else data)

    async def _give(self, data: bytes) -> None:
        # ContentFacts makes a lone CR a space, as it does for a sick client; in a file, LF alone ends a line.
        block = self._facts.take(data)
        self._check()
        if not block:
            return
        self._last = block[-2:]
        if not self._intake.take(block):
            self._waiting = Deferred()
            await self._waiting
        self._check()

    def _check(self) -> None:
        refusal = self._facts.refusal or self._intake.refusal
        if refusal is not None:
            self.abort()
            raise VerbError(f"the message can't be taken: {refusal.text}", DATA)

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def finish(self) -> int:
        """The queue ID, when the message is durable (law 1)."""
        if self._held_back:
            await self._give(b"\n")
        if self._last and not self._last.endswith(b"\n"):
            await self._give(b"\r\n")
        try:
            finished = self._intake.finish()
            content, digest = await finished if isinstance(finished, Deferred) else finished
            accepted = await self._spool.accept((self._acceptance(content, digest),))
        except HeaderRefused as refused:
            raise VerbError(f"the message can't be taken: {refused.reply.text}", DATA) from refused
        except SpoolError as error:
            raise VerbError(f"the message could not be stored: {error}", TEMPORARY) from error
        for each in accepted:
            message = each.message
            _SENT.value += 1
            self._reception.log.event(
                "accepted",
                message.id,
                listener="",
                by=self._caller.name,
                sender=str(message.reverse_path),
                recipients=len(each.recipients),
                size=message.size,
                protocol="local",
                message_id=message.message_id,
            )
            self._reception.deliver(each, content)
        return self._id

    def abort(self) -> None:
        self._intake.abort()

    def _finish_header(self, raw: bytes) -> bytes:
        refusal = decide_header(raw, self._policies.header_bounds)
        if refusal is not None:
            raise HeaderRefused(refusal)
        now = self._reception.now()
        hostname = self._policies.configuration.hostname
        identifier = format_id(self._id)
        received = f"Received: by {hostname} (mta send, uid {self._caller.uid}) id {identifier};\r\n\t{format_date(int(now))}\r\n"
        fixes = missing_fields(raw, sender=self._sender, identifier=identifier, hostname=hostname, at=now)
        return received.encode() + fixes + raw

    def _acceptance(self, content: Content, digest: bytes) -> Acceptance:
        reception, policies = self._reception, self._policies
        queue = policies.configuration.queue
        now = reception.now()
        header = content.header
        message = Message(
            id=self._id,
            kind=Kind.LOCAL,
            reverse_path=self._sender,
            received_at=now,
            expires_at=now + (queue.lifetime if self._sender else queue.report_lifetime),
            size=content.size,
            needs_utf8=not self._is_ascii(header),
            has_8bit=self._facts.has_8bit,
            max_line=self._facts.max_line,
            authcid=self._caller.name,
            protocol="local",
            message_id=message_id_of(header),
            sha256=digest,
            config_generation=policies.generation,
        )
        return Acceptance(message, tuple(self._recipients), content, reception.owner, LEASE_OF_A_BOOT)

    def _is_ascii(self, header: bytes) -> bool:
        addresses = (self._sender, *(each.address for each in self._recipients))
        if not all(each.is_ascii for each in addresses):
            return False
        if header.isascii():
            return True
        try:
            header.decode("utf-8")
        except UnicodeDecodeError:
            return True  # old 8-bit mail: SMTPUTF8 would not mend it
        return False


def _address(text: str, what: str) -> Address:
    try:
        return parse_address(text.removeprefix("<").removesuffix(">"), utf8=True)
    except AddressError as error:
        raise VerbError(f"{what}: {text!r} is no mail address: {error}", DATA) from error


def _recipients(reception: Reception, texts: list[str]) -> list[NewRecipient]:
    """As at RCPT: what would be refused there is refused here (law 5)."""
    policies = reception.policies
    if not texts:
        raise VerbError("a message needs a recipient")
    if len(texts) > policies.configuration.limits.recipients:
        raise VerbError(f"more than {policies.configuration.limits.recipients} recipients", DATA)
    found: list[NewRecipient] = []
    for text in texts:
        address = _address(text, "to")
        resolution = policies.router.resolve(address)
        if resolution.place in {Place.REFUSED, Place.UNAVAILABLE}:
            answer: Reply | None = resolution.reply
            code = TEMPORARY if resolution.place is Place.UNAVAILABLE else NO_RECIPIENT
            raise VerbError(f"{text}: {answer.text if answer else 'refused'} ({resolution.rule})", code)
        recipient = NewRecipient(
            resolution.address,
            str(address),
            resolution.destination,
            held=policies.configuration.queue.hold,
            route_generation=policies.router.generation,
        )
        if recipient not in found:
            found.append(recipient)
    return found


async def begin(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """`from` ("" or "<>" for the null reverse-path) and `to`, a list. An upload begun before on this connection ends."""
    reception = house.reception
    if reception is None or reception.closing:
        raise VerbError("mail is taken only while the daemon runs", UNAVAILABLE)
    caller.drop_upload()
    sender = text_of(arguments, "from")
    reverse_path = _address(sender, "from") if sender not in {"", "<>"} else NULL_PATH
    recipients = _recipients(reception, texts_of(arguments, "to"))
    caller.upload = Upload(reception, caller, reverse_path, recipients)
    return {"block": BLOCK_OCTETS}


def _upload(caller: Caller) -> Upload:
    if not isinstance(caller.upload, Upload):
        raise VerbError("no message was begun on this connection")
    return caller.upload


async def block(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """`data`: octets of the message in base64."""
    upload = _upload(caller)
    try:
        data = base64.b64decode(text_of(arguments, "data"), validate=True)
    except binascii.Error as error:
        raise VerbError(f"data: no base64: {error}") from error
    if len(data) > BLOCK_OCTETS:
        raise VerbError(f"data: more than {BLOCK_OCTETS} octets")
    await upload.take(data)
    return {}


async def end(house: House, caller: Caller, arguments: Arguments) -> dict[str, Any]:
    """The queue ID: the message is durable."""
    upload = _upload(caller)
    caller.upload = None
    try:
        return {"id": format_id(await upload.finish())}
    except VerbError:
        upload.abort()
        raise
