"""Damaged objects: how they are made (damage), what is asked of them (exercise), and a fuzzer's share (shard)."""
