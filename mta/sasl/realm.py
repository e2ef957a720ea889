"""The avatar: the authenticated sender, and what it may do. twisted.cred's IRealm for mail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.cred.portal import IRealm
from zope.interface import Attribute, Interface, implementer

from mta.sasl.names import BadName, user_name
from mta.sasl.refusal import Refused

MayActAs = Callable[[str, str], bool]
"""May this authcid act as this authzid? Both are user names; they differ."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a sender may do."""

    may_relay: bool = True


class ISender(Interface):
    """Who has proved to be somebody."""

    authcid: str = Attribute("who proved the password: user@domain")
    authzid: str = Attribute("on whose behalf; mostly the same")
    mechanism: str = Attribute("how")
    rights: Rights = Attribute("what it may do")


@implementer(ISender)
@dataclass(frozen=True, slots=True)
class Sender:
    """An authenticated sender."""

    authcid: str
    authzid: str
    mechanism: str
    rights: Rights = field(default_factory=Rights)

    @property
    def may_relay(self) -> bool:
        return self.rights.may_relay


@dataclass(frozen=True, slots=True)
class LoginMind:
    """The `mind` of twisted.cred: what a login asks for, beside its credentials."""

    mechanism: str
    authzid: str = ""
    peer: str = ""


def only_oneself(authcid: str, authzid: str) -> bool:
    """The default: nobody acts for somebody else."""
    return False


@implementer(IRealm)
class SenderRealm:
    """Makes the Sender for a checked user name. `domain` is appended to names without one."""

    def __init__(self, domain: str, may_act_as: MayActAs = only_oneself) -> None:
        self._domain = domain
        self._may_act_as = may_act_as

    def requestAvatar(
        self,
        avatarId: bytes | tuple[()],  # noqa: N803 - twisted.cred's name
        mind: object,
        *interfaces: type[Interface],
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """Raises Refused for an authzid that is not the user's."""
        if ISender not in interfaces:
            raise NotImplementedError("this realm has senders only")
        if not isinstance(avatarId, bytes) or not isinstance(mind, LoginMind):
            raise Refused("anonymous logins are not taken")
        authcid = avatarId.decode("utf-8")
        authzid = self._authorized(authcid, mind.authzid)
        return ISender, Sender(authcid, authzid, mind.mechanism), _nothing_to_end

    def _authorized(self, authcid: str, asked: str) -> str:
        if not asked:
            return authcid
        try:
            authzid = user_name(asked, self._domain)
        except BadName as error:
            raise Refused(f"the authorization identity is no name: {error}") from None
        if authzid != authcid and not self._may_act_as(authcid, authzid):
            raise Refused("may not act as the authorization identity")
        return authzid


def _nothing_to_end() -> None:
    """A sender leaves nothing behind when its session ends."""
