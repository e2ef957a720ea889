"""One AUTH exchange: drives a pure mechanism on one side, the Portal of twisted.cred on the other.

    begin / respond → Challenge, to be answered | Success | Failure

A mechanism's claim is first admitted by the throttle, then given to the Portal as credentials. A checker may hold a
conversation of its own meanwhile (SCRAM: it supplies the verifier, and waits for the proof). What the Portal says in the
end is the outcome: UnauthorizedLogin is 535; anything else that goes wrong is ours, and 454 (law 4).

base64 belongs to the SMTP side; here are octets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure as CaughtFailure

from mta.mail import reply
from mta.mail.reply import Reply
from mta.sasl.credentials import credentials_for
from mta.sasl.mechanisms.step import Ask, Claim, Proven, SaslError, ServerMechanism, ServerStep, VerifierMechanism
from mta.sasl.realm import ISender, LoginMind, Sender
from mta.sasl.refusal import BackendUnavailable, Refused
from mta.sasl.throttle import Throttle
from mta.sasl.verifier import Verifier

_log = Logger()


@dataclass(frozen=True, slots=True, repr=False)
class Challenge:
    """Octets for the client (334); it must answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Success:
    """`data`: the server's last message, which must ride in a 334 before the 235 (RFC 4954 section 4); None where there is none."""

    avatar: Sender
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """`cause` is for the log, `authcid` is the name as claimed."""

    reply: Reply
    cause: str
    authcid: str = ""


Step = Challenge | Success | Failure
CallLater = Callable[[float, Callable[[], None]], IDelayedCall]


class Exchange:
    """One exchange; it ends with Success, Failure, or abort(). After abort() nothing that it gave fires any more."""

    def __init__(
        self,
        mechanism: str,
        server: ServerMechanism,
        *,
        client_first: bool,
        portal: Portal,
        throttle: Throttle,
        call_later: CallLater,
        account: Callable[[str], str],
        peer: str,
    ) -> None:
        """`account`: the key under which the throttle counts a claimed name."""
        self.mechanism = mechanism
        self._server = server
        self._client_first = client_first
        self._portal = portal
        self._throttle = throttle
        self._call_later = call_later
        self._account_of = account
        self._peer = peer
        self._authcid = ""
        self._answer: Deferred[Step] | None = None  # for the step that is being computed
        self._login: Deferred[Any] | None = None
        self._proof: Deferred[bool] | None = None  # a checker waits for it
        self._last_words: bytes | None = None
        self._delayed: IDelayedCall | None = None
        self._over = False

    def begin(self, initial: bytes | None) -> Deferred[Step]:
        """The client has said AUTH; `initial` is its initial response decoded, b"" for "=", None for none."""
        if initial is not None and not self._client_first:
            return self._expect(lambda: self._end(Failure(reply.NO_INITIAL_RESPONSE, "an initial response")))
        return self._expect(lambda: self._advance(self._server.start(initial)))

    def respond(self, data: bytes) -> Deferred[Step]:
        """The client has answered a Challenge."""
        return self._expect(lambda: self._advance(self._server.respond(data)))

    def abort(self) -> None:
        """Cancelled by the client, or the client is gone."""
        self._over = True
        self._answer = None
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        if self._login is not None:
            self._login.cancel()

    def _expect(self, compute: Callable[[], None]) -> Deferred[Step]:
        if self._answer is not None or self._over:
            raise RuntimeError("the exchange expects nothing now")
        answer = self._answer = Deferred[Step]()
        try:
            compute()
        except SaslError as error:
            self._broken(error)
        return answer

    def _advance(self, step: ServerStep) -> None:
        if isinstance(step, Ask):
            self._tell(Challenge(step.data))
        elif isinstance(step, Proven):
            self._last_words = step.data
            self._settle_proof(True)
        else:
            self._admit(step)

    def _admit(self, claim: Claim) -> None:
        self._authcid = claim.authcid
        wait = self._throttle.admit(self._peer, self._account_of(claim.authcid))
        if wait is None:
            self._end(Failure(reply.AUTH_UNAVAILABLE, "throttled: too many failed logins", self._authcid))
        elif wait > 0:
            self._delayed = self._call_later(wait, lambda: self._present(claim))
        else:
            self._present(claim)

    def _present(self, claim: Claim) -> None:
        self._delayed = None
        mind = LoginMind(self.mechanism, claim.authzid, self._peer)
        self._login = self._portal.login(credentials_for(claim, self._converse), mind, ISender)
        self._login.addCallbacks(self._accepted, self._refused).addErrback(self._own_fault)

    def _converse(self, verifier: Verifier) -> Deferred[bool]:
        """For the checker: the conversation goes on with this verifier."""
        proof = self._proof = Deferred[bool]()
        self._tell(Challenge(cast(VerifierMechanism, self._server).supply(verifier).data))
        return proof

    def _settle_proof(self, verdict: bool) -> None:
        if self._proof is None:
            raise RuntimeError(f"{self.mechanism}: no checker waits for a proof")
        proof, self._proof = self._proof, None
        proof.callback(verdict)

    def _broken(self, error: SaslError) -> None:
        self._authcid = self._authcid or error.authcid
        if self._proof is not None:
            self._settle_proof(False)  # the checker, then the Portal, say the rest
        else:
            self._throttle.failed(self._peer, self._account_of(self._authcid) if self._authcid else "")
            self._end(Failure(reply.AUTH_FAILED, error.cause, self._authcid))

    def _accepted(self, result: tuple[object, Sender, object]) -> None:
        if not self._over:
            self._throttle.succeeded(self._peer, self._account_of(self._authcid))
            self._end(Success(result[1], self._last_words))

    def _refused(self, caught: CaughtFailure) -> None:
        if self._over:
            return
        if caught.check(UnauthorizedLogin) is not None:
            self._throttle.failed(self._peer, self._account_of(self._authcid))
            cause = caught.value.cause if isinstance(caught.value, Refused) else "refused by the checker"
            self._end(Failure(reply.AUTH_FAILED, cause, self._authcid))
        elif isinstance(caught.value, BackendUnavailable):
            self._end(Failure(reply.AUTH_UNAVAILABLE, caught.value.cause, self._authcid))
        else:
            self._own_fault(caught)

    def _own_fault(self, caught: CaughtFailure) -> None:
        if self._over:
            return
        # The type alone: nobody knows what a foreign exception's text quotes.
        kind = type(caught.value).__name__
        _log.error("A login failed by our own fault: {kind}", kind=kind)
        self._end(Failure(reply.AUTH_UNAVAILABLE, f"our own fault: {kind}", self._authcid))

    def _end(self, step: Success | Failure) -> None:
        self._over = True
        self._tell(step)

    def _tell(self, step: Step) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.callback(step)
