"""A session's decisions: asks policy, builds the transaction, hands it to the spool. Knows no socket and no syntax.

Its methods answer the engine's events: with a Reply at once where that can be (the hot path makes no Deferred), else with a
Deferred. `reset` is the session's half of the one reset (law 10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mta.inbound.intake import HeaderRefused, Intake
from mta.inbound.listener import Listener
from mta.inbound.reception import Policies, Reception
from mta.inbound.submission import missing_fields
from mta.mail import reply
from mta.mail.address import NULL_PATH, Address, AddressError, parse_address
from mta.mail.envelope import Content, Kind, Message, NewRecipient
from mta.mail.identifiers import format_id
from mta.mail.reply import Reply
from mta.mail.trace import protocol_keyword, received_field
from mta.policy.decision import ClientFacts
from mta.policy.header import decide_header, message_id_of
from mta.policy.relay import decide_recipient, decide_sender
from mta.routing.router import Place
from mta.sasl.realm import Sender
from mta.smtp.events import ContentEnd, Data, Hello, Inquiry, Mail, Rcpt
from mta.smtp.parameters import NO_MAIL_PARAMETERS, MailParameters, RcptParameters
from mta.spool.contract import Acceptance, Accepted, Spool, SpoolError, SpoolFull
from mta.telemetry.metrics import counter

# A row is claimed for the life of its boot: no other process works on the shard while this one holds its lock.
LEASE_OF_A_BOOT = 4_102_444_800.0  # 2100-01-01

ACCEPTED = counter("mta_messages_accepted_total", "Messages accepted into the spool")
ACCEPTED_OCTETS = counter("mta_octets_accepted_total", "Octets of the messages accepted")
ACCEPTED_RECIPIENTS = counter("mta_recipients_accepted_total", "Recipients accepted into the spool")
REFUSED_RECIPIENTS = counter("mta_recipients_refused_total", "RCPT commands refused by policy or routing")
REFUSED_MESSAGES = counter("mta_messages_refused_total", "Messages refused at MAIL, DATA or end of data")


class Session:
    """One client's session. `resume` is called when content may flow again."""

    __slots__ = (
        "_accepting",
        "_intake",
        "_parameters",
        "_policies",
        "_queue_id",
        "_recipients",
        "_reverse_path",
        "_spool",
        "_text_id",
        "accepted",
        "authzid",
        "client_port",
        "esmtp",
        "facts",
        "hello",
        "listener",
        "mechanism",
        "reception",
        "resume",
        "tls",
    )  # fmt: skip

    def __init__(
        self, reception: Reception, listener: Listener, client_ip: str, client_port: int, resume: Callable[[], None]
    ) -> None:
        self.reception = reception
        self.listener = listener
        self.client_port = client_port
        self.resume = resume
        self.hello = ""
        self.esmtp = False
        self.tls = ""
        self.mechanism = self.authzid = ""
        self.accepted = 0
        trusted = reception.policies.in_relay_networks(client_ip)
        self.facts = ClientFacts(client_ip, listener.name, listener.submission, False, trusted, "", trusted)
        self._policies: Policies = reception.policies
        self._accepting = False
        self._forget()

    def _forget(self) -> None:
        self._reverse_path: Address = NULL_PATH
        self._parameters: MailParameters = NO_MAIL_PARAMETERS
        self._recipients: dict[tuple[Address, RcptParameters], NewRecipient] = {}
        self._intake: Intake | None = None
        self._spool: Spool | None = None
        self._queue_id = 0
        self._text_id = ""

    # --- the session ----------------------------------------------------------------------------------------------

    def tls_started(self, description: str) -> None:
        """`description`: "TLSv1.3 TLS_AES_256_GCM_SHA384". What was said in clear text is forgotten."""
        self.tls = description
        self.hello, self.esmtp = "", False
        self.mechanism = self.authzid = ""
        trusted = self.facts.trusted_network
        self.facts = replace(self.facts, over_tls=True, authcid="", may_relay=trusted)

    def authenticated(self, sender: Sender) -> None:
        self.mechanism, self.authzid = sender.mechanism, sender.authzid
        self.facts = replace(
            self.facts, authcid=sender.authcid, may_relay=sender.may_relay or self.facts.trusted_network
        )

    @property
    def accepting(self) -> bool:
        """A commit is in flight: the session must hear of its end before it is closed."""
        return self._accepting

    def hello_said(self, event: Hello) -> Reply:
        self.hello, self.esmtp = event.name, event.verb != "HELO"
        return self.listener.helo_reply

    def inquiry(self, event: Inquiry) -> Reply:
        """VRFY, EXPN, ETRN: an oracle of addresses is for those we know."""
        if event.verb == "ETRN":
            return reply.ETRN_REFUSED
        if not self.facts.may_relay:
            return reply.VRFY_REFUSED if event.verb == "VRFY" else reply.EXPN_REFUSED
        try:
            address = parse_address(event.argument.strip("<>"), utf8=True)
        except AddressError:
            return reply.VRFY_UNKNOWN
        resolution = self.reception.policies.router.resolve(address)
        if resolution.place is Place.LOCAL:
            return Reply(250, "2.1.5", f"<{resolution.address}>")
        return resolution.reply or reply.VRFY_UNKNOWN

    # --- the transaction ------------------------------------------------------------------------------------------

    def mail(self, event: Mail) -> Reply:
        self._forget()
        self._policies = self.reception.policies
        decision = decide_sender(self.facts)
        if decision.reply is not None:
            return self._refuse(decision.reply, decision.rule, sender=event.reverse_path)
        spool = self.reception.next_spool()
        if not spool.has_room(event.parameters.size or self.listener.profile.size_limit):
            return self._refuse(reply.SPOOL_FULL, "spool full", sender=event.reverse_path)
        self._spool = spool
        self._reverse_path = event.reverse_path
        self._parameters = event.parameters
        return reply.MAIL_OK

    def rcpt(self, event: Rcpt) -> Reply:
        policies = self._policies
        resolution = policies.router.resolve(event.address)
        decision = decide_recipient(self.facts, resolution)
        if decision.reply is not None:
            REFUSED_RECIPIENTS.value += 1
            return self._refuse(decision.reply, decision.rule, sender=self._reverse_path, recipient=event.original)
        parameters = event.parameters
        recipient = NewRecipient(
            resolution.address,
            event.original,
            resolution.destination,
            parameters.orcpt,
            parameters.notify,
            held=policies.configuration.queue.hold,
            route_generation=policies.generation,
        )
        # The same mailbox twice is one delivery; only what its reports would say can make it two.
        self._recipients.setdefault((recipient.address, parameters), recipient)
        return reply.RCPT_OK

    def data(self, event: Data) -> Reply:
        spool = self._spool
        if spool is None:
            return reply.OUR_FAULT
        if not spool.has_room(self._parameters.size or self.listener.profile.size_limit):
            return self._refuse(reply.SPOOL_FULL, "spool full", sender=self._reverse_path)
        self._queue_id = spool.new_id()
        self._text_id = format_id(self._queue_id)
        queue_id = self._queue_id
        self._intake = Intake(
            self._finish_header,
            lambda resume: spool.body_writer(queue_id, resume),
            self.resume,
            self._policies.header_bounds.size,
        )
        return reply.START_MAIL_INPUT

    def block(self, data: bytes) -> bool:
        """A piece of content. False: no more until `resume` is called."""
        return self._intake is None or self._intake.take(data)

    def reset(self) -> None:
        """The transaction is void. What is on its way into the spool goes on: it may be acknowledged already."""
        if self._intake is not None:
            self._intake.abort()
        self._forget()

    def end(self, event: ContentEnd) -> Reply | Deferred[Reply]:
        """The end of content: store, then reply (law 1)."""
        intake = self._intake
        if intake is None or self._spool is None:
            return event.refusal or reply.OUR_FAULT
        refusal = event.refusal or intake.refusal
        if refusal is not None:
            return self._refuse(refusal, "content", sender=self._reverse_path)
        try:
            finished = intake.finish()
        except HeaderRefused as refused:
            return self._refuse(refused.reply, "header", sender=self._reverse_path)
        self._accepting = True  # until _acknowledge or _not_stored
        if not isinstance(finished, tuple):
            return finished.addCallback(lambda pair: self._store(event, *pair)).addErrback(self._not_stored)
        try:
            return self._store(event, *finished)
        except Exception:
            self._accepting = False
            raise

    def _finish_header(self, raw: bytes) -> bytes:
        """Trace and submission's fixes in front of what came; raises HeaderRefused."""
        policies, facts = self._policies, self.facts
        refusal = decide_header(raw, policies.header_bounds)
        if refusal is not None:
            raise HeaderRefused(refusal)
        now = self.reception.now()
        hostname = policies.configuration.hostname
        only = next(iter(self._recipients.values())).original if len(self._recipients) == 1 else ""
        received = received_field(
            hello=self.hello,
            client_ip=facts.client_ip,
            hostname=hostname,
            protocol=self._protocol(),
            tls=self.tls,
            identifier=self._text_id,
            recipient=only,
            at=now,
        )
        if not facts.submission:
            return received + raw
        fixes = missing_fields(raw, sender=self._reverse_path, identifier=self._text_id, hostname=hostname, at=now)
        return received + fixes + raw

    def _protocol(self) -> str:
        return protocol_keyword(
            esmtp=self.esmtp,
            tls=bool(self.tls),
            authenticated=bool(self.facts.authcid),
            utf8=self._parameters.smtputf8,
            lmtp=self.listener.profile.lmtp,
        )

    def _store(self, event: ContentEnd, content: Content, digest: bytes) -> Deferred[Reply]:
        spool = self._spool
        if spool is None:  # the client went away while its content was being synced
            raise SpoolError("the session ended before its content was stored")
        reception, facts, parameters = self.reception, self.facts, self._parameters
        queue = self._policies.configuration.queue
        now = reception.now()
        header = content.header
        trusted_auth = parameters.auth is not None and bool(facts.authcid)
        message = Message(
            id=self._queue_id,
            kind=Kind.SUBMISSION if facts.submission or facts.authcid else Kind.RELAY,
            reverse_path=self._reverse_path,
            received_at=now,
            expires_at=now + (queue.lifetime if self._reverse_path else queue.report_lifetime),
            size=content.size,
            envid=parameters.envid,
            ret=parameters.ret,
            needs_utf8=not self._is_ascii(header),
            has_8bit=event.has_8bit,
            max_line=event.max_line,
            requiretls=parameters.requiretls,
            auth_param=(parameters.auth or "") if trusted_auth else "<>" if parameters.auth is not None else "",
            client_ip=facts.client_ip,
            client_port=self.client_port,
            helo=self.hello,
            authcid=facts.authcid,
            authzid=self.authzid,
            mechanism=self.mechanism,
            tls=self.tls,
            protocol=self._protocol(),
            listener=facts.listener,
            message_id=message_id_of(header),
            sha256=digest,
            config_generation=self._policies.generation,
        )
        acceptance = Acceptance(message, tuple(self._recipients.values()), content, reception.owner, LEASE_OF_A_BOOT)
        self._intake = None  # it is the spool's now: a reset must not take the body away
        committed = spool.accept((acceptance,))
        if self._policies.configuration.test_only.reply_before_commit:
            return _already(committed.addCallback(self._committed, content), message).addCallback(self._acknowledge)
        return committed.addCallbacks(self._stored, self._not_stored, (content,))

    def _is_ascii(self, header: bytes) -> bool:
        """False when a hop must speak SMTPUTF8. Octets that are no UTF-8 are old 8-bit mail: SMTPUTF8 would not mend it."""
        if not self._reverse_path.is_ascii or not all(each.address.is_ascii for each in self._recipients.values()):
            return False
        if header.isascii():
            return True
        try:
            header.decode("utf-8")
        except UnicodeDecodeError:
            return True
        return False

    def _committed(self, accepted: list[Accepted], content: Content) -> list[Accepted]:
        reception = self.reception
        for each in accepted:
            message = each.message
            ACCEPTED.value += 1
            ACCEPTED_OCTETS.value += message.size
            ACCEPTED_RECIPIENTS.value += len(each.recipients)
            reception.log.event(
                "accepted",
                message.id,
                listener=message.listener,
                client=message.client_ip,
                helo=message.helo,
                sender=str(message.reverse_path),
                recipients=len(each.recipients),
                size=message.size,
                protocol=message.protocol,
                tls=message.tls,
                auth=message.authcid,
                message_id=message.message_id,
            )
            try:
                reception.deliver(each, content)
            except Exception:  # noqa: BLE001 - it is stored: a bug behind the spool must not make the client send it again
                reception.log.event("fault", message.id, error=Failure().getErrorMessage())
        return accepted

    def _stored(self, accepted: list[Accepted], content: Content) -> Reply:
        self._accepting = False
        return self._acknowledge(self._committed(accepted, content))

    def _acknowledge(self, accepted: list[Accepted]) -> Reply:
        self._accepting = False
        self.accepted += 1
        return reply.queued_as(format_id(accepted[0].message.id))

    def _not_stored(self, failure: Failure) -> Reply:
        self._accepting = False
        full = failure.check(SpoolFull) is not None
        self.reception.log.event("store-failed", self._queue_id, error=failure.getErrorMessage())
        answer = reply.SPOOL_FULL if full else reply.SPOOL_FAILED
        return self._refuse(answer, "spool", sender=self._reverse_path)

    def _refuse(self, answer: Reply, rule: str, *, sender: Address, recipient: str = "") -> Reply:
        """Remember a refusal: in the event log and in the file that `mta why` reads."""
        if not recipient:
            REFUSED_MESSAGES.value += 1
        reception, facts = self.reception, self.facts
        note: dict[str, object] = {
            "at": reception.now(),
            "client": facts.client_ip,
            "listener": facts.listener,
            "helo": self.hello,
            "auth": facts.authcid,
            "sender": str(sender) if sender else "<>",
            "recipient": recipient or ",".join(each.original for each in islice(self._recipients.values(), 10)),
            "reply": str(answer),
            "rule": rule,
            "generation": self._policies.generation,
        }
        reception.refusals.note(note)
        reception.log.event(
            "refused",
            self._queue_id,
            client=facts.client_ip,
            listener=facts.listener,
            helo=self.hello,
            auth=facts.authcid,
            sender=str(sender),
            recipient=str(note["recipient"]),
            reply=str(answer),
            rule=rule,
        )
        return answer


def _already(committed: Deferred[list[Accepted]], message: Message) -> Deferred[list[Accepted]]:
    """Test only: an acknowledgement that no disk has seen."""
    committed.addErrback(lambda _: None)
    early: Deferred[list[Accepted]] = Deferred()
    early.callback([Accepted(message, ())])
    return early
