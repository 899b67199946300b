"""Transports: how messages reach a broker."""
