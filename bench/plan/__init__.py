"""What is to be run, and how long it takes."""
