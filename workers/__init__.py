"""Where rows meet pixels: runner, queue, scheduler, command line."""
