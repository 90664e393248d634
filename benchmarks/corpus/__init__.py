"""Thousands of real BPF objects, made from Debian's kernel sources, and what reading and writing does to them.

`make corpus` compiles them (resumable), `make corpus-report` examines them.
"""
