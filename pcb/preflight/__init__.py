"""Cost and checks before anything runs: arithmetic, cost, plan, doctor. No torch."""
