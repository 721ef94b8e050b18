"""Which cells are drawn together, and when: orders, scales, blocks, schedules. No torch."""
