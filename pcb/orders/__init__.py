"""In which order the cells of a grid are drawn, and how many at once: the orders of the systems."""
