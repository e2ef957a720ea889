"""`twistd mta`. Names the module that makes the service; imports neither it nor the reactor."""

from twisted.application.service import ServiceMaker

mta = ServiceMaker("mta", "mta.service", "A mail transfer agent: submission, relay, durable queue, delivery", "mta")
