"""Peers in environments of their own: made on request, started as programs, asked over pipes."""
