"""txmta: a mail transfer agent on Twisted.

The folders follow the mail's way through the house; docs/flow.md tells it on one page.
"""

__version__ = "0.1.0"
