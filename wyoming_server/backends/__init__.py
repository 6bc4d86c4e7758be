"""Everything that can turn a recording into words, behind one interface."""
