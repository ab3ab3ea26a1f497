"""An operator's verbs, one function each: the command line and the dashboard parse, call and render."""
