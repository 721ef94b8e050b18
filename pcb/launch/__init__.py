"""Running units as jobs: submitted once, watched, found again after the head process died."""
