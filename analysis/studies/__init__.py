"""What none of the papers shows: the items of the section beyond the papers."""
