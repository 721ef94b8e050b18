"""Before anything runs: arithmetic, cost, plan, doctor. No torch."""
