"""Tables: victims x cells."""
