"""Speed and memory of the program's parts, beside what the machine could do at best."""
