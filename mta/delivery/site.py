"""Which site a domain's mail goes to: the set of its best exchangers, asked of the DNS. Never fails."""

from __future__ import annotations

from twisted.internet import defer

from mta.config.via import TLS_MARK
from mta.delivery.agent import OWN_SITE, SiteAnswer
from mta.delivery.mx import site_key
from mta.dns.resolver import Answer, MxAnswer, Resolver, Soon
from mta.mail.address import AddressError, parse_domain

SCHEME = "mx:"


def site_of(destination: str, resolver: Resolver) -> Soon[SiteAnswer]:
    """Of `mx:domain`, whatever its level of TLS: the hosts are the same. A domain without MX records, an address literal and an
    explicit route have a site of their own.
    """
    domain = destination.removeprefix(SCHEME).partition(TLS_MARK)[0]
    if not destination.startswith(SCHEME) or domain.startswith("["):
        return OWN_SITE
    if not domain.isascii():
        try:
            domain = parse_domain(domain, utf8=True)
        except AddressError:
            return OWN_SITE
    asked = resolver.mx(domain)
    if isinstance(asked, defer.Deferred):
        return asked.addCallback(_site)
    return _site(asked)


def _site(answer: MxAnswer) -> SiteAnswer:
    if not isinstance(answer, Answer):
        return OWN_SITE
    return SiteAnswer(site_key([each for each in answer.records if each.host]), answer.ttl_seconds)
