"""Decoding and encoding of pictures in child processes that can be killed; only this code reads untrusted bytes."""
