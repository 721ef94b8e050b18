"""What any process needs: atomic files, locks, devices, ranks, progress."""
