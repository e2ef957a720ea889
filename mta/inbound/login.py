"""AUTH between the session and SASL: which mechanism may be used now, and what its outcome means for the session."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from mta.inbound.reception import Reception
from mta.inbound.session import Session
from mta.mail import reply
from mta.mail.reply import Reply
from mta.sasl.authenticator import MechanismRefused
from mta.sasl.exchange import Challenge, Exchange, Failure, Step, Success
from mta.telemetry.metrics import counter

LOGINS = counter("mta_logins_total", "Logins that succeeded")
LOGINS_FAILED = counter("mta_logins_failed_total", "Logins that failed")


class Login:
    """The logins of one session, one after another. A step gives a challenge (octets) or the final reply."""

    __slots__ = ("_exchange", "_mechanism", "_reception", "_session", "_success", "failures")

    def __init__(self, session: Session, reception: Reception) -> None:
        self._session = session
        self._reception = reception
        self._exchange: Exchange | None = None
        self._success: Success | None = None  # proved, but the client has yet to answer our last message
        self._mechanism = ""
        self.failures = 0

    def begin(self, mechanism: str, initial: bytes | None) -> Deferred[Reply | bytes]:
        authenticator = self._session.listener.authenticator
        if authenticator is None:
            return succeed(reply.AUTH_NOT_OFFERED)
        self._mechanism = mechanism
        facts = self._session.facts
        try:
            self._exchange = authenticator.exchange(mechanism, peer=facts.client_ip, tls=facts.over_tls)
        except MechanismRefused as refused:
            self._tell("auth-refused", str(refused.reply), "")
            return succeed(refused.reply)
        return self._exchange.begin(initial).addCallback(self._outcome)

    def respond(self, data: bytes) -> Deferred[Reply | bytes]:
        if self._success is not None:
            success, self._success = self._success, None
            return succeed(reply.BAD_SYNTAX if data else self._welcome(success))
        if self._exchange is None:
            return succeed(reply.OUR_FAULT)
        return self._exchange.respond(data).addCallback(self._outcome)

    def abort(self) -> None:
        """The exchange is void: cancelled, or the client is gone."""
        self._success = None
        if self._exchange is not None:
            self._exchange.abort()
            self._exchange = None

    def _outcome(self, step: Step) -> Reply | bytes:
        if isinstance(step, Challenge):
            return step.data
        self._exchange = None
        if isinstance(step, Failure):
            if step.reply is not reply.AUTH_UNAVAILABLE:
                self.failures += 1
            LOGINS_FAILED.value += 1
            self._tell("auth-failed", str(step.reply), step.authcid, step.cause)
            return step.reply
        if step.data is not None:
            # RFC 4954 section 4: the server's last word rides in a 334; the client answers it with an empty line
            self._success = step
            return step.data
        return self._welcome(step)

    def _welcome(self, success: Success) -> Reply:
        LOGINS.value += 1
        self._session.authenticated(success.avatar)
        self._tell("auth", "", success.avatar.authcid)
        return reply.AUTHENTICATED

    def _tell(self, name: str, answer: str, authcid: str, cause: str = "") -> None:
        facts = self._session.facts
        self._reception.log.event(
            name,
            client=facts.client_ip,
            listener=facts.listener,
            mechanism=self._mechanism,
            auth=authcid,
            tls=self._session.tls,
            reply=answer,
            cause=cause,
        )
        if answer:
            self._reception.refusals.note(
                {
                    "at": self._reception.now(),
                    "client": facts.client_ip,
                    "listener": facts.listener,
                    "helo": self._session.hello,
                    "auth": authcid,
                    "mechanism": self._mechanism,
                    "reply": answer,
                    "rule": cause or name,
                }
            )
