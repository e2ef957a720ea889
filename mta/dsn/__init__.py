"""Delivery status notifications (RFC 3461, RFC 3464)."""
