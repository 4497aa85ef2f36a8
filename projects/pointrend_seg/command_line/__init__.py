"""Options, exit statuses and error messages of the command-line tools."""
