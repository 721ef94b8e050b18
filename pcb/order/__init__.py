"""Sampling orders, scales, blocks and schedules. No torch."""
