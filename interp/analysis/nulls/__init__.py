"""What everything measured is held against."""
