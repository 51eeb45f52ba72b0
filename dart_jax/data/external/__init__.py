"""External suites, read from their public files; none of them is shipped here."""
